//! The collector, and what people should know about it.

use weir_core::event::Level;
use weir_core::record::TimeUs;

use super::Agent;
use crate::collector::Collector;

impl Agent {
    /// What an operator should know at the start of an agent that collects.
    pub(super) fn tell_of_the_collector(&mut self, now: TimeUs) {
        if self.collector.is_none() {
            return;
        }
        let netflow = &self.config.netflow;
        let (listen, open) = (netflow.listen, netflow.reachable());
        let from = if netflow.exporters.is_empty() { "anybody" } else { "those that `netflow.exporters` names" };
        self.news(now, Level::Info, "netflow", format!("collecting NetFlow and IPFIX on {listen} from {from}"));
        if self.kernel.is_none() {
            let words = "no interface: nothing is counted in the kernel and nothing can be stopped here, what is found \
                         leads to alerts alone";
            self.news(now, Level::Info, "netflow", words.to_owned());
        } else {
            let words = "flows that an exporter and the interface both see are counted twice: exporters should tell of \
                         other traffic than this host's";
            self.news(now, Level::Warning, "netflow", words.to_owned());
        }
        if open {
            let words = format!(
                "exporters are not authenticated, and {listen} can be reached from other hosts: whoever sends there can \
                 make flows up, raise alerts in any name, and teach what is normal"
            );
            self.warn("netflow", words);
        }
    }

    /// Takes what the collector has, so that it need not wait for the end of an epoch.
    pub fn collect(&mut self) {
        if let Some(collector) = &mut self.collector {
            collector.collect();
        }
    }

    /// Warns of what exporters do that makes their flows worth less.
    pub(super) fn look_at_exporters(&mut self) {
        for (subject, words) in self.collector.iter().flat_map(Collector::warnings).collect::<Vec<_>>() {
            self.warn(subject, words);
        }
    }
}
