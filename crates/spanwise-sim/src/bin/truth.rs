//! Runs worlds with known truth and prints how true the findings are: `truth [SEEDS] [--show] [--write DIR]`.

use std::io::Write as _;

use spanwise_sim::score::{KINDS, Score, WORLD_TRACES, worlds};
use spanwise_sim::{Dirt, World, WorldSpec, otlp};

/// The program's own: what an analysis costs is printed.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is_shown = arguments.iter().any(|argument| argument == "--show");
    let number = |place: usize, or: u64| arguments.get(place).and_then(|text| text.parse().ok()).unwrap_or(or);
    let (seeds, first) = (number(0, 20), number(1, 1));
    let seeds = first..first + seeds;
    if let Some(place) = arguments.iter().position(|argument| argument == "--write") {
        return write(arguments.get(place + 1).map_or(".", String::as_str), seeds);
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{} worlds a row, {WORLD_TRACES} requests each", seeds.end - seeds.start)?;
    for dirt in Dirt::ALL {
        let score = worlds(dirt, seeds.clone(), WORLD_TRACES, true);
        print(&mut out, dirt.as_str(), &score)?;
        if is_shown {
            score.misses.iter().try_for_each(|miss| writeln!(out, "      {miss}"))?;
        }
    }
    for dirt in Dirt::ALL {
        let score = worlds(dirt, seeds.clone(), WORLD_TRACES, false);
        let rate = score.wrong() as f64 * 10_000.0 / score.traces.max(1) as f64;
        writeln!(
            out,
            "healthy, {:<10} {:>7} traces: {} false findings, {rate:.2} per 10,000; path error {:.4}",
            dirt.as_str(),
            score.traces,
            score.wrong(),
            score.mean_path_error()
        )?;
        if is_shown {
            score.misses.iter().try_for_each(|miss| writeln!(out, "      {miss}"))?;
        }
    }
    // Few traces: what is said must still be true.
    let few = worlds(Dirt::Light, seeds, 300, false);
    writeln!(out, "healthy, few traces {:>7} traces: {} false findings", few.traces, few.wrong())?;
    if is_shown {
        few.misses.iter().try_for_each(|miss| writeln!(out, "      {miss}"))?;
    }
    Ok(())
}

fn print(out: &mut impl std::io::Write, dirt: &str, score: &Score) -> std::io::Result<()> {
    let (path, by_pairs) = (score.mean_path_error(), score.mean_path_error_by_pairs());
    let ns = score.analysis_ns_per_span();
    writeln!(
        out,
        "{dirt}: {} traces, {} spans; path error {path:.4}, by pairs of hosts {by_pairs:.4}; analysis {ns} ns a span",
        score.traces, score.spans
    )?;
    for (sort, found) in [("by lot", &score.by_lot), ("slowest", &score.slowest)] {
        writeln!(
            out,
            "  compare, {sort:<16} {} comparisons, {} differences, {} of them false; realised false discovery rate {:.4}",
            found.comparisons,
            found.reported,
            found.wrong,
            found.realised_rate()
        )?;
    }
    for kind in KINDS {
        let count = score.kinds.get(kind).copied().unwrap_or_default();
        writeln!(
            out,
            "  {kind:<25} precision {:.3}  recall {:.3}  findings per problem {:.2}  ({} planted, {} right, {} wrong)",
            count.precision(),
            count.recall(),
            count.findings_per_problem(),
            count.planted,
            count.right,
            count.wrong
        )?;
    }
    Ok(())
}

/// Each world as a file for `spanwise import`, and what is wrong in it beside it.
fn write(dir: &str, seeds: std::ops::Range<u64>) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    for seed in seeds {
        for dirt in Dirt::ALL {
            let world = World::new(WorldSpec { seed, dirt, traces: WORLD_TRACES, has_problems: true });
            let name = format!("{dir}/{seed}-{}", dirt.as_str().replace(' ', "-"));
            std::fs::write(format!("{name}.otlp"), otlp::file(world.traces().map(|arrived| arrived.trace)))?;
            let truth: Vec<String> = world.problems.iter().map(|problem| format!("{problem:?}\n")).collect();
            std::fs::write(format!("{name}.truth"), truth.concat())?;
        }
    }
    Ok(())
}
