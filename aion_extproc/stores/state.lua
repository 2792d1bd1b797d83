-- Shared state in Redis or Valkey: one script, one atomic step. accounting/holds.py has the rules.
--
--   {aion}:e           epoch
--   {aion}:a:<account> hash: s = spent, r = reserved (nano-dollars)
--   {aion}:t:<bucket>  tat in microseconds
--   {aion}:s:<slot>    open
--   {aion}:r:<id>      what is held, JSON
--   {aion}:x           ids of these by the millisecond at which they expire
--   {aion}:d:<id>      settled
--
-- Numbers of money are compared as doubles: exact below 2^53 nano-dollars, nine million dollars. They are added by
-- Redis itself, which is exact for all 64 bits.
local MINUTE = 60000000
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local now_ms = math.floor(now / 1000)

local function need(amount, limit)
  return math.ceil(amount * MINUTE / limit)
end

local function whole(number)
  return string.format('%.0f', number)
end

local function keep_bucket(key, tat)
  redis.call('SET', key, whole(tat), 'PX', math.max(1000, math.floor((tat - now) / 1000) + 1000))
end

-- Hold no more for that request. tokens: that it used; -1: nobody knows.
local function release(id, tokens)
  local key = '{aion}:r:' .. id
  local record = redis.call('GET', key)
  if not record then return end
  redis.call('DEL', key)
  redis.call('ZREM', '{aion}:x', id)
  record = cjson.decode(record)
  for _, held in ipairs(record.b) do
    -- The account may have expired with its period.
    if held[2] ~= '0' and redis.call('EXISTS', held[1]) == 1 then redis.call('HINCRBY', held[1], 'r', '-' .. held[2]) end
  end
  for _, slot in ipairs(record.s) do
    if redis.call('DECR', slot) <= 0 then redis.call('DEL', slot) end
  end
  if tokens < 0 then return end
  for _, held in ipairs(record.t) do
    local difference = need(tokens, held[2]) - need(held[3], held[2])
    local tat = tonumber(redis.call('GET', held[1]) or '0')
    if difference > 0 then tat = math.max(tat, now) end
    if tat + difference > now then keep_bucket(held[1], tat + difference) else redis.call('DEL', held[1]) end
  end
end

local function release_orphans()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', '{aion}:x', '-inf', now_ms, 'LIMIT', 0, 20)) do
    release(id, -1)
    redis.call('ZREM', '{aion}:x', id)
  end
end

-- ARGV: 'reserve', id, milliseconds until it expires, number of budgets, of buckets, of slots, then
-- account, seconds it is kept, limit, amount; bucket, limit, amount, 1 for tokens; slot, limit.
local function reserve()
  local id, expires = ARGV[2], now_ms + tonumber(ARGV[3])
  local budgets, buckets, slots = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
  release_orphans()
  release(id, -1)
  local granted, found = 1, {}
  local at = 7
  for _ = 1, budgets do
    local there = redis.call('HMGET', ARGV[at], 's', 'r')
    local used = tonumber(there[1] or '0') + tonumber(there[2] or '0')
    local amount = tonumber(ARGV[at + 3])
    if amount > 0 and used + amount > tonumber(ARGV[at + 2]) then granted = 0 end
    found[#found + 1] = whole(used)
    at = at + 4
  end
  for _ = 1, buckets do
    local backlog = math.max(tonumber(redis.call('GET', ARGV[at]) or '0') - now, 0)
    if backlog > 0 and backlog + need(tonumber(ARGV[at + 2]), tonumber(ARGV[at + 1])) > MINUTE then granted = 0 end
    found[#found + 1] = whole(backlog)
    at = at + 4
  end
  for _ = 1, slots do
    local open = tonumber(redis.call('GET', ARGV[at]) or '0')
    if open >= tonumber(ARGV[at + 1]) then granted = 0 end
    found[#found + 1] = whole(open)
    at = at + 2
  end
  if granted == 0 then return {0, unpack(found)} end
  -- The answer to a late question comes too late: the request went on without it, and has ended.
  if redis.call('EXISTS', '{aion}:d:' .. id) == 1 then return {1, unpack(found)} end

  local held_budgets, held_buckets, held_slots = {}, {}, {}
  at = 7
  for _ = 1, budgets do
    redis.call('HINCRBY', ARGV[at], 'r', ARGV[at + 3])
    redis.call('EXPIRE', ARGV[at], ARGV[at + 1])
    held_budgets[#held_budgets + 1] = {ARGV[at], ARGV[at + 3]}
    at = at + 4
  end
  for n = 1, buckets do
    local limit, amount = tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    keep_bucket(ARGV[at], now + tonumber(found[budgets + n]) + need(amount, limit))
    if ARGV[at + 3] == '1' then held_buckets[#held_buckets + 1] = {ARGV[at], limit, amount} end
    at = at + 4
  end
  for _ = 1, slots do
    redis.call('INCR', ARGV[at])
    held_slots[#held_slots + 1] = ARGV[at]
    at = at + 2
  end
  redis.call('SET', '{aion}:r:' .. id, cjson.encode({b = held_budgets, t = held_buckets, s = held_slots}))
  redis.call('ZADD', '{aion}:x', expires, id)
  return {1, unpack(found)}
end

-- ARGV: 'settle', seconds that it is remembered, then for each request: id, tokens or -1, number of accounts, and
-- account, seconds it is kept, amount. Answers 1 and the sum after it for each account, or 0, for each request.
local function settle()
  release_orphans()
  local told, at = {}, 3
  while at <= #ARGV do
    local id, tokens, accounts = ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    at = at + 3
    release(id, tokens)
    if not redis.call('SET', '{aion}:d:' .. id, '', 'NX', 'EX', ARGV[2]) then
      told[#told + 1] = '0'
    else
      told[#told + 1] = '1'
      for n = 0, accounts - 1 do
        redis.call('HINCRBY', ARGV[at + 3 * n], 's', ARGV[at + 3 * n + 2])
        told[#told + 1] = redis.call('HGET', ARGV[at + 3 * n], 's')
        redis.call('EXPIRE', ARGV[at + 3 * n], ARGV[at + 3 * n + 1])
      end
    end
    at = at + 3 * accounts
  end
  return told
end

if redis.call('EXISTS', '{aion}:e') == 0 then return 'unseeded' end
if ARGV[1] == 'reserve' then return reserve() end
return settle()
