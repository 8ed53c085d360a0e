//! The page is embedded from `ui/dist`. Without it (no `make ui` yet) the program builds all the same and says so.

fn main() {
    // From the directory of this package, wherever it lies when this runs.
    let dist = std::path::Path::new("../../ui/dist");
    println!("cargo:rerun-if-changed={}", dist.display());
    let index = dist.join("index.html");
    if !index.exists() {
        let page = "<!doctype html><title>Spanwise</title><p>The page was not built: run <code>make ui</code>, then build again.\n";
        let _ = std::fs::create_dir_all(dist).and_then(|()| std::fs::write(&index, page));
    }
}
