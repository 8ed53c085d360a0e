//! Findings against the truth of two worlds: `make truth` runs many.

use spanwise_sim::Dirt;
use spanwise_sim::score::{KINDS, worlds};

#[test]
fn what_is_planted_is_found_once_and_nothing_else() {
    let score = worlds(Dirt::Clean, 1..3, 3_000, true);
    let (mut planted, mut found, mut right, mut wrong) = (0, 0, 0, 0);
    for count in KINDS.iter().filter_map(|kind| score.kinds.get(kind)) {
        planted += count.planted;
        found += count.found;
        right += count.right;
        wrong += count.wrong;
    }
    // Two worlds are too few for shares of each kind: all kinds together.
    let misses = score.misses.join("\n");
    assert_eq!(planted, 14);
    assert!(found + 1 >= planted, "{found} of {planted} found\n{misses}");
    assert!(score.kinds.values().all(|count| count.found > 0), "a kind is never found\n{misses}");
    assert!(found * 20 >= (right + wrong) * 19, "{wrong} wrong\n{misses}");
    assert_eq!(right, found, "one finding a problem\n{misses}");
    // One comparison in twenty may report what is not there.
    let (by_lot, slowest) = (score.by_lot, score.slowest);
    assert!(by_lot.comparisons >= 10 && by_lot.realised_rate() <= 0.1, "{by_lot:?}");
    assert!(slowest.comparisons >= 10 && slowest.realised_rate() <= 0.05, "{slowest:?}");
    // Nearly all time is laid at the right service's door.
    assert!(score.mean_path_error() < 0.02, "{}", score.mean_path_error());
}

#[test]
fn healthy_worlds_are_silence() {
    let score = worlds(Dirt::Light, 11..13, 3_000, false);
    assert_eq!(score.wrong(), 0, "{}", score.misses.join("\n"));
}
