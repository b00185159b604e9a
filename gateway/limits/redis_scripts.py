"""The two operations of the shared store, each one script, so that the server does all of it or nothing.

The account of a caller is a hash: the spent part of requests and tokens (`rs`, `ts`) and when that was computed (`ra`,
`ta`), when the caller's day began and the used part of it (`day`, `du`). The running requests are a sorted set of
grants, by the time at which each is given up for lost. All times are the server's own.
"""

# KEYS: account, running. ARGV: grant, tokens, requests a minute, tokens a minute, tokens a day, concurrent, lease.
# A limit of 0 is none. Answers: limit reached or '', wait, tokens, day tokens, day, then left and reset of both.
TAKE = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1e6
local asked, rpm, tpm = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local tpd, most, lease = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local a = redis.call('HMGET', KEYS[1], 'rs', 'ra', 'ts', 'ta', 'day', 'du')

local function spent(amount, at, rate)
  local passed = math.max(now - (tonumber(at) or now), 0)
  return math.max((tonumber(amount) or 0) - passed * rate, 0)
end
local function wait(amount, limit)
  local missing = amount - limit
  if missing <= limit * 1e-8 then return 0 end
  return missing * 60 / limit
end

local rs, ts = spent(a[1], a[2], rpm / 60), spent(a[3], a[4], tpm / 60)
local day, du = tonumber(a[5]), tonumber(a[6]) or 0
if not day or now - day >= 86400 then day, du = now, 0 end
local tokens, day_tokens = math.min(asked, tpm), math.min(asked, tpd)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)

local reached, seconds = '', 0
if most > 0 and redis.call('ZCARD', KEYS[2]) >= most then
  reached = 'concurrent'
elseif rpm > 0 and wait(rs + 1, rpm) > 0 then
  reached, seconds = 'requests', wait(rs + 1, rpm)
elseif tpm > 0 and wait(ts + tokens, tpm) > 0 then
  reached, seconds = 'tokens', wait(ts + tokens, tpm)
elseif tpd > 0 and du + day_tokens > tpd then
  reached, seconds = 'day', day + 86400 - now
else
  if rpm > 0 then rs = rs + 1 end
  ts, du = ts + tokens, du + day_tokens
  redis.call('ZADD', KEYS[2], now + lease, ARGV[1])
  redis.call('PEXPIRE', KEYS[2], math.ceil(lease * 1000))
end
local function text(number) return string.format('%.17g', number) end
redis.call('HSET', KEYS[1], 'rs', text(rs), 'ra', text(now), 'ts', text(ts), 'ta', text(now), 'day', text(day),
  'du', text(du))
redis.call('PEXPIRE', KEYS[1], 90000000)
local function reset(amount, limit) return limit > 0 and amount * 60 / limit or 0 end
return {reached, text(seconds), text(tokens), text(day_tokens), text(day),
  text(rpm - rs), text(reset(rs, rpm)), text(tpm - ts), text(reset(ts, tpm))}
"""

# KEYS: account, running. ARGV: grant, used, tokens, tokens a minute, day tokens, day. A second time does nothing.
# A day of 0 is the present one: of a grant whose answer never came.
SETTLE = """
if redis.call('ZREM', KEYS[2], ARGV[1]) == 0 then return 0 end
local used = tonumber(ARGV[2])
local a = redis.call('HMGET', KEYS[1], 'ts', 'ta', 'day', 'du')
if tonumber(ARGV[4]) > 0 then
  local clock = redis.call('TIME')
  local now = clock[1] + clock[2] / 1e6
  local passed = math.max(now - (tonumber(a[2]) or now), 0)
  local ts = math.max((tonumber(a[1]) or 0) - passed * tonumber(ARGV[4]) / 60, 0)
  ts = math.max(ts + used - tonumber(ARGV[3]), 0)
  redis.call('HSET', KEYS[1], 'ts', string.format('%.17g', ts), 'ta', string.format('%.17g', now))
end
local day = tonumber(ARGV[6])
if tonumber(ARGV[5]) > 0 and (day == 0 or tonumber(a[3]) == day) then
  redis.call('HSET', KEYS[1], 'du', string.format('%.17g', (tonumber(a[4]) or 0) + used - tonumber(ARGV[5])))
end
return 1
"""
