-- Load of http1.pcap, for `wrk -t1`: a mix of methods, paths and sizes with a trace context on each request.
--
-- Exactly TOTAL requests are sent and answered: after the last one the connections idle (`delay`) until
-- the caller, who waits for the file REPORT, ends wrk. So no request is cut off at the end of the capture.

local total = tonumber(os.getenv("TOTAL"))
local allowed, answered, failed = 0, 0, 0

math.randomseed(20261121) -- a fixed seed: two captures carry the same requests

local function hex(words)
  local out = {}
  for i = 1, words do out[i] = string.format("%08x", math.random(0, 0x7fffffff)) end
  return table.concat(out)
end

-- Shares of 100, and what is asked for. Sizes of the responses are in make-captures.sh.
local mix = {
  { 40, function() return "GET", "/users/" .. math.random(1, 5000) .. "?expand=profile" end },
  { 25, function() return "GET", "/products/" .. math.random(1, 900) end },
  { 15, function() return "GET", "/search?q=lamp+" .. math.random(1, 400) .. "&page=" .. math.random(1, 9) end },
  { 5, function() return "GET", "/static/app-" .. math.random(1, 20) .. ".js" end },
  { 5, function() return "GET", "/feed/" .. math.random(1, 300) end }, -- chunked and gzip
  { 7, function()
    local item = string.rep("x", math.random(40, 240))
    return "POST", "/orders", '{"sku":' .. math.random(1, 900) .. ',"note":"' .. item .. '"}'
  end },
  { 3, function() return "GET", "/unavailable/" .. math.random(1, 50) end }, -- 503
}

local function pick()
  local roll = math.random(1, 100)
  for _, entry in ipairs(mix) do
    roll = roll - entry[1]
    if roll <= 0 then return entry[2]() end
  end
end

-- wrk asks once before each request for the milliseconds to wait.
function delay()
  if allowed == total then return 3600000 end
  allowed = allowed + 1
  return 0
end

function request()
  local method, path, body = pick()
  local headers = {
    ["Host"] = "shop.example",
    ["User-Agent"] = "bench/1.0",
    ["Accept"] = "*/*",
    ["Accept-Encoding"] = "gzip",
    ["traceparent"] = "00-" .. hex(4) .. "-" .. hex(2) .. "-01",
  }
  if body then headers["Content-Type"] = "application/json" end
  return wrk.format(method, path, headers, body)
end

function response(status)
  answered = answered + 1
  if status >= 500 then failed = failed + 1 end
  if answered == total then
    local file = assert(io.open(os.getenv("REPORT"), "w"))
    file:write("requests ", answered, "\nerrors ", failed, "\n")
    file:close()
  end
end
