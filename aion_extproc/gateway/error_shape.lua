-- An answer that no client of the API can read (a proxy's HTML page in place of the provider's JSON) becomes an error
-- in the shape of the API that was called. Its status stays; a page under a 200 becomes a 502.
--
-- Nearly every answer is JSON or a stream and passes after a look at two headers.

local LONGEST = 300
local MESSAGES = {[429] = 'rate_limit_error', [401] = 'authentication_error', [403] = 'permission_error'}

local function quote(text)
  local escaped = text:gsub('[%c"\\\127-\255]', function(c)
    if c == '"' or c == '\\' then return '\\' .. c end
    return ' '
  end)
  return '"' .. escaped .. '"'
end

local function plain(text)
  text = text:gsub('<[sS][tT][yY][lL][eE].-</[^>]*>', ' '):gsub('<[^>]*>', ' '):gsub('%s+', ' ')
  text = text:match('^ ?(.-) ?$')
  return #text > LONGEST and text:sub(1, LONGEST) .. '...' or text
end

local function body_of(status, message, anthropic, request_id)
  local fallback = status < 500 and 'invalid_request_error' or 'api_error'
  if anthropic then
    local kind = MESSAGES[status] or fallback
    return '{"type":"error","error":{"type":"' .. kind .. '","message":' .. quote(message)
      .. '},"request_id":' .. quote(request_id) .. '}'
  end
  if fallback == 'api_error' then fallback = 'server_error' end
  return '{"error":{"message":' .. quote(message) .. ',"type":"' .. (MESSAGES[status] or fallback)
    .. '","param":null,"code":"provider_error"}}'
end

function envoy_on_request(handle)
  handle:streamInfo():dynamicMetadata():set('aion.lua', 'id', handle:headers():get('x-request-id') or '')
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local content_type = (headers:get('content-type') or ''):lower()
  local status = tonumber(headers:get(':status')) or 500
  if status < 400 then
    if not content_type:find('text/html', 1, true) then return end
  elseif content_type:find('json', 1, true) or content_type:find('event-stream', 1, true) then
    return
  end
  local decided = handle:streamInfo():dynamicMetadata():get('aion')
  if not decided or not decided['format'] then return end -- none of the two APIs was called
  local anthropic = decided['format'] == 'anthropic'
  local page = handle:body(true)
  headers = handle:headers() -- what was got before the wait is no longer valid
  local text = page:length() > 0 and plain(page:getBytes(0, math.min(page:length(), 65536))) or ''
  local kind = content_type ~= '' and content_type:match('^[^;]*') or 'no content type'
  local message = 'The model provider answered ' .. status .. ' with ' .. kind
  message = message .. (text ~= '' and ': ' .. text or ' and no text.')
  if status < 400 then
    headers:replace(':status', '502')
    status = 502
  end
  headers:replace('content-type', 'application/json')
  local request = handle:streamInfo():dynamicMetadata():get('aion.lua')
  page:setBytes(body_of(status, message, anthropic, request and request['id'] or ''))
end
