-- Takes the usage chunk out of an OpenAI-format stream again, for a client that did not ask for it
-- (we asked the provider, for the bill). All other bytes pass as they came.
--
-- The usage chunk is one `data:` line and the blank line after it. A chunk of the body may end anywhere: a line
-- is held back only while it may still turn out to be the usage chunk. No client can use an unfinished line, so
-- this delays nothing; comments and all other lines pass at once, finished or not.

local EMPTY_CHOICES = '"choices"%s*:%s*%[%s*%]'
local A_CHOICE = '"choices"%s*:%s*%[%s*{'
local AN_ERROR = '"error"%s*:%s*[{"]'

-- Quotes inside a JSON string are escaped, so none of these can be found in a text that the model wrote.
local function is_usage_chunk(line)
  return line:find(EMPTY_CHOICES) ~= nil
    and line:find('"usage"%s*:%s*{') ~= nil
    and line:find('^data:%s*{') ~= nil
    and not line:find(A_CHOICE)
    and not line:find(AN_ERROR)
end

-- May an unfinished line still become the usage chunk? Not once it has shown a choice or an error.
local function may_be_usage_chunk(line)
  local start = ('data:'):sub(1, #line)
  return line:sub(1, 5) == start
    and not line:find('^data:%s*[^%s{]')
    and not line:find(A_CHOICE)
    and not line:find(AN_ERROR)
end

-- What of `text` passes, what of it is held back, and whether what passes ends inside a line. `inside`: the text
-- begins inside a line whose beginning has passed.
local function strip(text, inside)
  local kept, from = {}, 1
  while from <= #text do
    local line_end = text:find('\n', from, true)
    local line = text:sub(from, line_end or -1)
    if inside or not may_be_usage_chunk(line) then
      kept[#kept + 1] = line
      inside = line_end == nil
    elseif not line_end then
      return table.concat(kept), line, false
    elseif is_usage_chunk(line) then
      local next_line = text:match('^\r?\n()', line_end + 1)
      if next_line then
        line_end = next_line - 1
      elseif text:find('^\r?$', line_end + 1) then
        return table.concat(kept), text:sub(from), false -- its blank line is still to come
      else
        kept[#kept + 1] = line
      end
    else
      kept[#kept + 1] = line
    end
    from = (line_end or #text) + 1
  end
  return table.concat(kept), '', inside
end

function envoy_on_response(handle)
  local content_type = handle:headers():get('content-type')
  if not content_type or not content_type:lower():find('text/event-stream', 1, true) then return end
  handle:headers():remove('content-length') -- should a provider know it: it is no longer true
  local held, inside, last = '', false, nil
  for chunk in handle:bodyChunks() do
    last = chunk
    local size = chunk:length()
    if size == 0 then
      -- The end of the stream: what was held was a line cut short, not a usage chunk.
      if held ~= '' then chunk:setBytes(held) end
      held, last = '', nil
    else
      local text = held .. chunk:getBytes(0, size)
      -- Nearly every chunk is whole lines with a choice in them; only the others need looking at.
      if held ~= '' or text:sub(-1) ~= '\n' or text:find(EMPTY_CHOICES) then
        local out
        out, held, inside = strip(text, inside)
        chunk:setBytes(out)
      else
        inside = false
      end
    end
  end
  -- HTTP/2 may end the stream with its last data, and no empty chunk follows.
  if held ~= '' and last then last:setBytes(last:getBytes(0, last:length()) .. held) end
end
