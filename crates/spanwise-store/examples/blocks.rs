//! Measures what blocks cost to open and to find traces in, and writes a directory's blocks anew.
//!
//! `blocks DIR [ROUNDS]` opens the directory and reads traces by id. `blocks DIR rewrite OUT` makes a directory with
//! the same spans in blocks of this version's format, block by block.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use spanwise_journal::RealDisk;
use spanwise_model::TraceId;
use spanwise_store::Store;
use spanwise_store::block::{self, BlockReader};

type Failure = Box<dyn std::error::Error>;

/// Of this process, user and system.
fn cpu() -> Duration {
    let usage = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<u64> = usage
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    Duration::from_millis(10 * (fields.get(11).unwrap_or(&0) + fields.get(12).unwrap_or(&0)))
}

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = "blocks DIR [ROUNDS] | blocks DIR rewrite OUT";
    let dir = Path::new(arguments.first().ok_or(usage)?);
    match arguments.get(1).map(String::as_str) {
        Some("rewrite") => rewrite(dir, Path::new(arguments.get(2).ok_or(usage)?)),
        rounds => by_id(dir, rounds.map_or(Ok(300), str::parse)?),
    }
}

fn by_id(dir: &Path, rounds: usize) -> Result<(), Failure> {
    let began = Instant::now();
    let snapshot = Store::read(&RealDisk, dir)?;
    println!("opened after {:.1} ms", began.elapsed().as_secs_f64() * 1e3);
    let mut ids = Vec::new();
    for (_, _, part) in snapshot.parts() {
        if let spanwise_store::snapshot::Part::Block(block) = part {
            let rows = u32::try_from(block.len_spans())?;
            let few: Vec<u32> = (0..16).map(|part| (rows / 16) * part + rows / 37).collect();
            ids.extend(block.trace_ids(&few)?);
        }
    }
    // Far from one another.
    let ids: Vec<TraceId> = (0..rounds).map(|number| ids[number * 7919 % ids.len()]).collect();
    drop(snapshot);
    let snapshot = Store::read(&RealDisk, dir)?;
    let (mut times, mut spans, before) = (Vec::new(), 0, cpu());
    for id in &ids {
        let began = Instant::now();
        spans += snapshot.trace(id)?.map_or(0, |batch| batch.len_spans());
        times.push(began.elapsed());
    }
    let used = cpu() - before;
    times.sort();
    println!(
        "{} traces of {} spans: p50 {:?}, p90 {:?}, p99 {:?}; {:.2} ms of CPU each",
        ids.len(),
        spans,
        times[times.len() / 2],
        times[times.len() * 9 / 10],
        times[times.len() * 99 / 100],
        used.as_secs_f64() * 1e3 / ids.len() as f64
    );
    Ok(())
}

fn rewrite(dir: &Path, out: &Path) -> Result<(), Failure> {
    use spanwise_store::manifest::Manifest;
    let mut manifest = Manifest::load(&RealDisk, &dir.join("manifest"))?;
    let before = cpu();
    for meta in &mut manifest.blocks {
        let from = dir.join("blocks").join(&meta.id);
        let reader = Arc::new(BlockReader::open(&RealDisk, &from, &meta.id)?);
        let batches: Vec<_> = reader.scan()?.collect::<Result<_, _>>()?;
        let built = block::build(&batches, &block::nowhere)?;
        let to = out.join("blocks").join(&meta.id);
        std::fs::create_dir_all(&to)?;
        meta.bytes = 0;
        for (name, content) in built.files() {
            std::fs::write(to.join(name), content)?;
            meta.bytes += content.len() as u64;
            println!("{} {name} {:.3} B/span", meta.id, content.len() as f64 / meta.spans as f64);
        }
        println!("{} insight {:.3} B/span", meta.id, built.facts_bytes as f64 / meta.spans as f64);
        meta.format = block::FORMAT_VERSION;
        meta.facts_bytes = built.facts_bytes;
    }
    std::fs::create_dir_all(out.join("manifest"))?;
    std::fs::create_dir_all(out.join("wal"))?;
    manifest.version = 0;
    manifest.version += 1;
    manifest.publish(&RealDisk, &out.join("manifest"))?;
    let spans: u64 = manifest.blocks.iter().map(|block| block.spans).sum();
    println!("{spans} spans, {:.0} ns of CPU each", (cpu() - before).as_secs_f64() * 1e9 / spans as f64);
    Ok(())
}
