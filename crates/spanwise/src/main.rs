mod api;
mod cli;
mod load;
fn main() {}
