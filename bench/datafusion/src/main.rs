//! `bench-datafusion DATA-DIR [ROUNDS]`: the searches of `bench/search.py` as SQL over the blocks of a data directory.
//!
//! This is the least that a search by DataFusion would cost: conditions on columns alone, without attributes in
//! `residual`, without the log's content, and without judging a trace whose spans lie in several blocks as a whole.
//! Filters are pushed into Parquet's reader, statistics of row groups and pages are used, metadata is cached.

use std::time::{Duration, Instant};

use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::Result;
use datafusion::prelude::{SessionConfig, SessionContext};
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NEWEST: &str = "GROUP BY trace_id ORDER BY min(start_unix_nano) DESC LIMIT 20";

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let data = arguments.next().expect("usage: bench-datafusion DATA-DIR [ROUNDS]");
    let rounds: usize = arguments.next().map_or(25, |text| text.parse().expect("ROUNDS is a number"));

    let mut config = SessionConfig::new().with_target_partitions(2);
    let parquet = &mut config.options_mut().execution.parquet;
    (parquet.pushdown_filters, parquet.reorder_filters, parquet.enable_page_index) = (true, true, true);
    config.options_mut().execution.listing_table_ignore_subdirectory = false;
    let context = SessionContext::new_with_config(config);

    let began = Instant::now();
    let url = ListingTableUrl::parse(format!("{data}/blocks/"))?;
    let options = ListingOptions::new(Arc::new(ParquetFormat::default())).with_file_extension("spans.parquet");
    let table = ListingTableConfig::new(url).with_listing_options(options).infer_schema(&context.state()).await?;
    context.register_table("spans", Arc::new(ListingTable::try_new(table)?))?;
    let spans = context.sql("SELECT trace_id FROM spans").await?.count().await?;
    println!("{spans} spans, first question answered after {:.0} ms", began.elapsed().as_secs_f64() * 1e3);

    let trace_ids = ids(&context).await?;
    run(&context, rounds, "by id", |round| {
        format!("SELECT * FROM spans WHERE trace_id = X'{}'", trace_ids[round % trace_ids.len()])
    })
    .await?;
    run(&context, rounds, "a user, 20,000 distinct values", |round| {
        let user = round * 797 % 20_000;
        format!("SELECT trace_id FROM spans WHERE \"attr.user.id:string\" = 'u-{user:05}' {NEWEST}")
    })
    .await?;
    run(&context, rounds, "a user that does not exist", |round| {
        format!("SELECT trace_id FROM spans WHERE \"attr.user.id:string\" = 'u-9{round:05}' {NEWEST}")
    })
    .await?;
    run(&context, rounds, "errors of a service", |_| {
        format!("SELECT trace_id FROM spans WHERE service = 'gateway' AND status = 2 {NEWEST}")
    })
    .await?;
    run(&context, rounds, "slow spans of a service", |_| {
        format!("SELECT trace_id FROM spans WHERE service = 'gateway' AND duration_ns > 2000000000 {NEWEST}")
    })
    .await?;
    run(&context, rounds, "slowest of a service", |_| {
        "SELECT trace_id FROM spans WHERE service = 'cart' GROUP BY trace_id ORDER BY max(duration_ns) DESC LIMIT 20"
            .to_owned()
    })
    .await
}

/// Of some traces anywhere in the store, as SQL writes bytes.
async fn ids(context: &SessionContext) -> Result<Vec<String>> {
    let sql = "SELECT DISTINCT trace_id FROM spans \
               WHERE \"attr.user.id:string\" IN ('u-00797', 'u-01594', 'u-02391') LIMIT 300";
    let mut out = Vec::new();
    for batch in context.sql(sql).await?.collect().await? {
        let ids = datafusion::common::cast::as_fixed_size_binary_array(batch.column(0))?;
        out.extend(ids.iter().flatten().map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>()));
    }
    Ok(out)
}

async fn run(context: &SessionContext, rounds: usize, name: &str, sql: impl Fn(usize) -> String) -> Result<()> {
    let (mut times, mut rows, before) = (Vec::new(), 0, cpu());
    for round in 0..rounds {
        let began = Instant::now();
        rows += context.sql(&sql(round)).await?.collect().await?.iter().map(|batch| batch.num_rows()).sum::<usize>();
        times.push(began.elapsed());
    }
    let used = (cpu() - before).as_secs_f64() * 1e3 / rounds as f64;
    times.sort();
    let at = |share: f64| times[((times.len() as f64 * share) as usize).min(times.len() - 1)].as_secs_f64() * 1e3;
    let found = rows as f64 / rounds as f64;
    println!("{name:<32} p50 {:8.1} ms   p99 {:8.1} ms   {used:8.1} ms of CPU   {found:5.1} rows", at(0.5), at(0.99));
    Ok(())
}

/// Of this process, by /proc, in steps of 10 ms.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Duration::from_millis((ticks(11) + ticks(12)) * 10)
}
