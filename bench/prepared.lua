-- Sends prepared requests, each once, and ends wrk when the last of them is answered.
-- Arguments: the file of requests (each behind a line with its length), the number of connections, the status expected.

local ffi = require("ffi")
ffi.cdef([[
typedef struct { long seconds; long nanoseconds; } moment;
int clock_gettime(int clock, moment *now);
int getpid(void);
int kill(int pid, int signal);
]])

local MONOTONIC, INTERRUPT = 1, 2
local requests = {}
local threads = {}
local expected, last
-- wrk asks for one request that it does not send.
local asked = -1
local answered, unexpected = 0, 0
local now = ffi.new("moment")

local function seconds()
   ffi.C.clock_gettime(MONOTONIC, now)
   return tonumber(now.seconds) + tonumber(now.nanoseconds) / 1e9
end

function setup(thread)
   table.insert(threads, thread)
end

function init(args)
   local file = assert(io.open(args[1], "rb"))
   for length in file:lines() do
      table.insert(requests, file:read(tonumber(length)))
   end
   file:close()
   -- When this many are answered, all have been sent.
   last = #requests - tonumber(args[2]) + 1
   expected = tonumber(args[3])
end

function request()
   if asked == 0 then
      began = seconds()
   end
   asked = asked + 1
   return requests[math.max(asked, 1)]
end

function response(status)
   answered = answered + 1
   if status ~= expected then
      unexpected = unexpected + 1
      unexpected_status = status
   end
   if answered == last then
      took = seconds() - began
      report = answered .. " " .. unexpected .. " " .. (unexpected_status or 0) .. " " .. took
      wrk.thread:stop()
      -- wrk itself sleeps to the end of the time that it was given.
      ffi.C.kill(ffi.C.getpid(), INTERRUPT)
   end
end

function done(_, latency)
   print("prepared: " .. (threads[1]:get("report") or "0 0 0 0")
      .. " " .. latency:percentile(50) .. " " .. latency:percentile(99))
end
