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

/// A distribution over fixed bounds.
#[derive(Debug, Clone)]
pub struct Histogram(Arc<HistogramState>);

#[derive(Debug)]
struct HistogramState {
    bounds: &'static [f64],
    /// One more than there are bounds: the last counts what is above all of them.
    buckets: Vec<AtomicU64>,
    sum: Mutex<f64>,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self(Arc::new(HistogramState { bounds, buckets, sum: Mutex::new(0.0) }))
    }

    pub fn record(&self, value: f64) {
        let bucket = self.0.bounds.partition_point(|bound| *bound < value);
        self.0.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        *self.0.sum.lock() += value;
    }

    fn render(&self, name: &str, labels: &[String], out: &mut String) {
        let mut count = 0;
        let bounds = self.0.bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        for (bound, bucket) in bounds.zip(&self.0.buckets) {
            count += bucket.load(Ordering::Relaxed);
            let le = [labels, &[format!("le=\"{bound}\"")]].concat();
            let _ = writeln!(out, "{name}_bucket{} {count}", braces(&le));
        }
        let labels = braces(labels);
        let _ = writeln!(out, "{name}_sum{labels} {}\n{name}_count{labels} {count}", *self.0.sum.lock());
    }
}

type Labels = Vec<(&'static str, String)>;
type Gauge = Box<dyn Fn() -> f64 + Send + Sync>;

enum Series {
    Counter(Counter),
    Gauge(Gauge),
    Histogram(Histogram),
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
            Series::Gauge(_) | Series::Histogram(_) => Counter::default(),
        }
    }

    /// The histogram of this name and these labels. `bounds` ascend.
    pub fn histogram(
        &self,
        name: &'static str,
        help: &'static str,
        labels: &[(&'static str, &str)],
        bounds: &'static [f64],
    ) -> Histogram {
        let mut families = self.0.lock();
        let family = families.entry(name).or_insert_with(|| Family { help, series: BTreeMap::new() });
        match family.series.entry(owned(labels)).or_insert_with(|| Series::Histogram(Histogram::new(bounds))) {
            Series::Histogram(histogram) => histogram.clone(),
            Series::Counter(_) | Series::Gauge(_) => Histogram::new(bounds),
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
                Some(Series::Histogram(_)) => "histogram",
                _ => "counter",
            };
            let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", family.help);
            for (labels, series) in &family.series {
                let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escape(value))).collect();
                let _ = match series {
                    Series::Counter(counter) => writeln!(out, "{name}{} {}", braces(&labels), counter.get()),
                    Series::Gauge(value) => writeln!(out, "{name}{} {}", braces(&labels), value()),
                    Series::Histogram(histogram) => {
                        histogram.render(name, &labels, &mut out);
                        Ok(())
                    }
                };
            }
        }
        out
    }
}

fn owned(labels: &[(&'static str, &str)]) -> Labels {
    labels.iter().map(|(key, value)| (*key, (*value).to_owned())).collect()
}

fn braces(labels: &[String]) -> String {
    if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) }
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
        let ages = telemetry.histogram("age", "Seconds.", &[("x", "y")], &[1.0, 10.0]);
        for age in [0.5, 1.0, 3.0, 11.0] {
            ages.record(age);
        }
        telemetry.gauge("up", "Runs.", &[], || 1.0);
        let text = telemetry.render();
        assert!(text.contains("otelcol_receiver_accepted_spans{receiver=\"otlp\\\"x\"} 5\n"), "{text}");
        assert!(text.contains("# TYPE up gauge\nup 1\n"), "{text}");
        for line in ["age_bucket{x=\"y\",le=\"1\"} 2", "age_bucket{x=\"y\",le=\"+Inf\"} 4", "age_sum{x=\"y\"} 15.5"] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert_eq!(telemetry.total("otelcol_receiver_accepted_spans"), 5);
    }
}
