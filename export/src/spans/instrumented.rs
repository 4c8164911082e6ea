//! Processes that export spans themselves: their exchanges need no second span.

use std::collections::HashSet;

use wirespan_engine::{Exchange, Side};

use crate::semconv::Facts;

/// Most processes that are remembered.
const MAX_PROCESSES: usize = 4_096;

/// The processes that were seen exporting spans with OTLP.
#[derive(Clone, Debug, Default)]
pub(super) struct Instrumented {
    pids: HashSet<u32>,
}

impl Instrumented {
    /// Whether the exchange's process exports spans itself, as far as was seen until now, this
    /// exchange included.
    pub(super) fn look(&mut self, exchange: &Exchange<'_>, facts: &Facts<'_>) -> bool {
        let Some(process) = &exchange.process else {
            return false;
        };
        if exchange.side == Side::Client && exports_spans(facts) {
            if self.pids.len() >= MAX_PROCESSES {
                // Process numbers are used again: begin anew rather than trust old ones.
                self.pids.clear();
            }
            self.pids.insert(process.pid);
        }
        self.pids.contains(&process.pid)
    }
}

/// Whether it is an OTLP export of spans that was accepted.
fn exports_spans(facts: &Facts<'_>) -> bool {
    let by_rpc = "opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let by_http =
        facts.method == Some("POST") && facts.path.is_some_and(|path| path.ends_with("/v1/traces"));
    facts.error_type.is_none() && (facts.rpc_method == Some(by_rpc) || by_http)
}
