//! Own metrics, in Prometheus' text format. Names are the collector's, bare as its default reader shows them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// A number that only grows.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

type Labels = Vec<(&'static str, String)>;
type Gauge = Box<dyn Fn() -> f64 + Send + Sync>;

enum Series {
    Counter(Counter),
    Gauge(Gauge),
}

struct Family {
    help: &'static str,
    series: BTreeMap<Labels, Series>,
}

/// Every metric of the process. Cloning shares.
#[derive(Clone, Default)]
pub struct Telemetry(Arc<Mutex<BTreeMap<&'static str, Family>>>);

impl Telemetry {
    /// The counter of this name and these labels; the same one for the same labels.
    pub fn counter(&self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)]) -> Counter {
        let labels = owned(labels);
        let mut families = self.0.lock();
        let family = families.entry(name).or_insert_with(|| Family { help, series: BTreeMap::new() });
        match family.series.entry(labels).or_insert_with(|| Series::Counter(Counter::default())) {
            Series::Counter(counter) => counter.clone(),
            Series::Gauge(_) => Counter::default(),
        }
    }

    /// Reads `value` whenever the metrics are read.
    pub fn gauge(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        value: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        let mut families = self.0.lock();
        let family = families.entry(name).or_insert_with(|| Family { help, series: BTreeMap::new() });
        family.series.insert(owned(labels), Series::Gauge(Box::new(value)));
    }

    /// Sum over all labels; 0 when there is no such counter.
    pub fn total(&self, name: &str) -> u64 {
        let families = self.0.lock();
        let series = families.get(name).into_iter().flat_map(|family| family.series.values());
        series.map(|series| if let Series::Counter(counter) = series { counter.get() } else { 0 }).sum()
    }

    /// The text that `/metrics` answers.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for (name, family) in self.0.lock().iter() {
            let kind = match family.series.values().next() {
                Some(Series::Gauge(_)) => "gauge",
                _ => "counter",
            };
            let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", family.help);
            for (labels, series) in &family.series {
                let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escape(value))).collect();
                let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
                let _ = match series {
                    Series::Counter(counter) => writeln!(out, "{name}{labels} {}", counter.get()),
                    Series::Gauge(value) => writeln!(out, "{name}{labels} {}", value()),
                };
            }
        }
        out
    }
}

fn owned(labels: &[(&'static str, &str)]) -> Labels {
    labels.iter().map(|(key, value)| (*key, (*value).to_owned())).collect()
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_render_as_prometheus_reads_them() {
        let telemetry = Telemetry::default();
        let spans = telemetry.counter("otelcol_receiver_accepted_spans", "Spans taken.", &[("receiver", "otlp\"x")]);
        spans.add(2);
        telemetry.counter("otelcol_receiver_accepted_spans", "Spans taken.", &[("receiver", "otlp\"x")]).add(3);
        telemetry.gauge("up", "Runs.", &[], || 1.0);
        let text = telemetry.render();
        assert!(text.contains("otelcol_receiver_accepted_spans{receiver=\"otlp\\\"x\"} 5\n"), "{text}");
        assert!(text.contains("# TYPE up gauge\nup 1\n"), "{text}");
        assert_eq!(telemetry.total("otelcol_receiver_accepted_spans"), 5);
    }
}
