-- What wrk saw, on one line: requests, those of them that failed, and percentiles of the latency in microseconds.
done = function(summary, latency, requests)
   local of = summary.errors
   local failed = of.connect + of.read + of.write + of.timeout + of.status
   local told = { "told", summary.requests, failed }
   for _, share in ipairs({ 50, 75, 90, 99 }) do
      told[#told + 1] = string.format("%.0f", latency:percentile(share))
   end
   print(table.concat(told, " "))
end
