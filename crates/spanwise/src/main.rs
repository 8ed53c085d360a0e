//! Spanwise: distributed tracing, whole, in one binary.

mod api;
mod cli;
mod exporter;
mod load;
mod run;
mod server;
mod time_text;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::run()
}
