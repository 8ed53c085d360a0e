//! The hot paths one by one, for instruction counts: `bench/micro.py` runs each under callgrind with one turn and with
//! three, and divides the difference. By hand: `hot NAME TURNS`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use spanwise_insight::{Mode, Tree, critical_path::critical_path, row};
use spanwise_journal::{RealDisk, Wal, WalOptions};
use spanwise_model::{Limits, Trace};
use spanwise_wire::frame::split_by_trace;
use spanwise_wire::import::import;
use spanwise_wire::inflate::{Encoding, deflate, inflate};
use spanwise_wire::{Batch, concat, decode_trace, frame, select};
use workload::Workload;

#[path = "../src/load/workload.rs"]
#[allow(dead_code, unused_imports)]
mod workload;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SPANS: u64 = 20_000;

struct Input {
    raw: Vec<Bytes>,
    batches: Vec<Batch>,
    traces: Vec<Trace>,
    spans: u64,
}

type Turn = fn(&Input);

const PATHS: [(&str, Turn); 14] = [
    ("validate_and_index", |input| {
        let limits = Limits::default();
        for raw in &input.raw {
            black_box(Batch::parse(raw.clone(), &limits).is_ok());
        }
    }),
    ("inflate_zstd", |input| {
        for raw in compressed(input, Encoding::Zstd) {
            black_box(inflate(Encoding::Zstd, raw, 4 << 20).is_ok());
        }
    }),
    ("inflate_gzip", |input| {
        for raw in compressed(input, Encoding::Gzip) {
            black_box(inflate(Encoding::Gzip, raw, 4 << 20).is_ok());
        }
    }),
    ("concat_30_requests", |input| {
        for batches in input.batches.chunks(30) {
            black_box(concat(batches));
        }
    }),
    ("reframe_every_second_span", |input| {
        for batch in &input.batches {
            let places: Vec<usize> = (0..batch.len_spans()).step_by(2).collect();
            black_box(select(batch, &places));
        }
    }),
    ("frame", |input| {
        for batch in &input.batches {
            black_box(frame(batch.pieces()));
        }
    }),
    ("deflate_zstd", |input| {
        for raw in &input.raw {
            black_box(deflate(Encoding::Zstd, None, raw).is_ok());
        }
    }),
    ("wal_append", |input| {
        let dir = tempfile::tempdir().expect("a directory");
        let (wal, _) = Wal::open(Arc::new(RealDisk), dir.path(), WalOptions::default()).expect("a log");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            for raw in &input.raw {
                wal.append(vec![raw.clone()]).await.expect("room");
            }
        });
    }),
    ("block_build", |input| {
        black_box(spanwise_store::block::build(&input.batches, &spanwise_store::block::nowhere).is_ok());
    }),
    ("critical_path", |input| {
        for trace in &input.traces {
            black_box(critical_path(trace, &Tree::of(trace), Mode::Spanwise));
        }
    }),
    ("trace_row", |input| {
        let (mut names, mut reader) = (row::Names::default(), row::RowReader::default());
        for trace in &input.traces {
            black_box(reader.row(trace, &mut names).is_some());
        }
    }),
    // From the bytes of a block's spans to the facts row of each trace; of recorded traces as well.
    ("facts_rows", facts_rows),
    ("facts_rows_shop", facts_rows),
    ("facts_rows_hotel", facts_rows),
];

fn facts_rows(input: &Input) {
    black_box(spanwise_store::block::Sorted::of(&input.batches).rows());
}

/// A path over recorded traces, and where they are.
const RECORDED: [(&str, &str); 2] = [
    ("facts_rows_shop", "../../examples/shop/recorded/ill.json.gz"),
    ("facts_rows_hotel", "tests/data/hotel-reservation.jsonl.gz"),
];

fn compressed(input: &Input, encoding: Encoding) -> &'static [Bytes] {
    static ZSTD: std::sync::OnceLock<Vec<Bytes>> = std::sync::OnceLock::new();
    static GZIP: std::sync::OnceLock<Vec<Bytes>> = std::sync::OnceLock::new();
    let cell = if encoding == Encoding::Zstd { &ZSTD } else { &GZIP };
    cell.get_or_init(|| input.raw.iter().filter_map(|raw| deflate(encoding, None, raw).ok()).collect())
}

fn made() -> (Vec<Bytes>, Vec<Batch>) {
    let mut workload = Workload::new(1, 1_700_000_000_000_000_000, 1_000_000);
    let raw: Vec<Bytes> = workload.requests(SPANS).into_iter().map(|request| request.bytes.into()).collect();
    let batches = raw.iter().filter_map(|raw| Batch::from_trusted(raw.clone()).ok()).collect();
    (raw, batches)
}

fn recorded(path: &str) -> Vec<Batch> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    import(&std::fs::read(path).expect("recorded traces").into()).batches
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| !argument.starts_with("--"));
    let name = arguments.next().unwrap_or_default();
    let turns: u32 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1);
    let Some((_, turn)) = PATHS.iter().find(|(known, _)| *known == name) else {
        println!("{}", PATHS.map(|(name, _)| name).join("\n"));
        return;
    };
    let (raw, batches) = match RECORDED.iter().find(|(of, _)| *of == name) {
        Some((_, path)) => (Vec::new(), recorded(path)),
        None => made(),
    };
    let traces = match name.as_str() {
        "critical_path" | "trace_row" => {
            concat(&batches).iter().flat_map(split_by_trace).map(|batch| decode_trace(&[batch])).collect()
        }
        _ => Vec::new(),
    };
    let spans = batches.iter().map(|batch| batch.len_spans() as u64).sum();
    let input = Input { raw, batches, traces, spans };
    let began = Instant::now();
    for _ in 0..turns {
        turn(&input);
    }
    println!(
        "{} spans, {:.0} ns a span",
        input.spans,
        began.elapsed().as_nanos() as f64 / f64::from(turns) / input.spans as f64
    );
}
