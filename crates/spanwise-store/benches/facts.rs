//! What insight costs while a block is built: `facts TURNS`, by wall time; under callgrind, the difference of two runs.

use std::hint::black_box;
use std::time::Instant;

use spanwise_wire::Batch;
use workload::Workload;

#[path = "../../spanwise/src/load/workload.rs"]
#[allow(dead_code, unused_imports)]
mod workload;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SPANS: u64 = 100_000;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let turns: u32 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut workload = Workload::new(1, 1_700_000_000_000_000_000, 1_000_000);
    let requests = workload.requests(SPANS);
    let batches: Vec<Batch> =
        requests.into_iter().filter_map(|request| Batch::from_trusted(request.bytes.into()).ok()).collect();
    let sorted = spanwise_store::block::Sorted::of(&batches);
    let (mut least, mut bytes) = (f64::INFINITY, 0);
    let (mut with, mut sketches) = (f64::INFINITY, 0);
    let (mut of_rows, mut rows) = (f64::INFINITY, 0);
    for _ in 0..turns {
        let began = Instant::now();
        rows = black_box(sorted.rows());
        of_rows = of_rows.min(began.elapsed().as_nanos() as f64);
        let began = Instant::now();
        bytes = black_box(sorted.facts()).map_or(0, |facts| facts.len());
        least = least.min(began.elapsed().as_nanos() as f64);
        let began = Instant::now();
        sketches = black_box(sorted.facts_and_sketches()).map_or(0, |(_, sketches)| sketches.len());
        with = with.min(began.elapsed().as_nanos() as f64);
    }
    let spans = workload.totals.spans as f64;
    println!("{rows} rows from bytes: {:.0} ns a span", of_rows / spans);
    println!("{spans} spans, {:.0} ns a span, {:.2} B a span", least / spans, bytes as f64 / spans);
    println!("sketches: {:.0} ns a span more, {:.2} B a span", (with - least) / spans, sketches as f64 / spans);
}
