//! The smallest program around a graph: a collector without a store, for profiles of the data path that build in a
//! minute. `cargo run --release -p spanwise-pipeline --example collector -- CONFIG [DATA_DIR]`

use std::path::PathBuf;
use std::time::Duration;

use spanwise_model::MemoryBudget;
use spanwise_pipeline::graph::{Graph, GraphOptions};
use spanwise_pipeline::{Config, FeatureGates, Input, Registry, Spools, Telemetry};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let source = arguments.next().ok_or("usage: collector CONFIG [DATA_DIR]")?;
    let spools =
        arguments.next().map_or_else(Spools::default, |dir| Spools::in_dir(PathBuf::from(dir).join("pipeline")));
    let input = Input { sources: vec![source], sets: Vec::new() };
    let config = Config::load(&input, &Registry::builtin(), &spanwise_pipeline::config::Process)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let options = GraphOptions {
            telemetry: Telemetry::default(),
            memory: MemoryBudget::new(512 << 20),
            discard_other_signals: true,
            spools: spools.clone(),
            feature_gates: FeatureGates::default(),
            host: None,
        };
        let mut graph = Graph::build(&config, &options)?;
        graph.start().await?;
        for spool in spools.all().into_values() {
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    if let Err(error) = spool.maintain().await {
                        eprintln!("{error}");
                    }
                }
            });
        }
        let mut end = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        end.recv().await;
        graph.shut_down(Duration::from_secs(10)).await;
        Ok(())
    })
}
