//! What several documents say is the same in each.

use std::fs;
use std::path::Path;

fn text(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The lines that a dependent's Cargo.toml needs are those of the README, and each names a package of the tree.
#[test]
fn the_profile_of_a_dependent() {
    let lines = |text: &str| -> Vec<String> {
        let lines = text.lines().map(|line| line.trim_start_matches("//!").trim());
        let profile =
            |line: &&str| line.starts_with("[profile.dev.package.") || line.starts_with("opt-level");
        lines.filter(profile).map(str::to_owned).collect()
    };
    let readme = lines(&text("README.md"));
    assert_eq!(readme.len(), 4, "{readme:?}");
    assert_eq!(lines(&text("src/lib.rs")), readme);
    let lock = text("Cargo.lock");
    for package in readme.iter().filter_map(|line| line.strip_prefix("[profile.dev.package.")) {
        assert!(lock.contains(&format!("name = \"{}\"", package.trim_end_matches(']'))), "{package}");
    }
}

#[test]
fn the_oldest_rust() {
    let version = |path: &str| {
        let manifest = text(path);
        let line = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap();
        line.trim_matches('"').to_owned()
    };
    let oldest = version("Cargo.toml");
    for path in ["tests/downstream/Cargo.toml", "tests/tract/Cargo.toml", "mpi/Cargo.toml"] {
        assert_eq!(version(path), oldest, "{path}");
    }
    let readme = text("README.md");
    assert!(readme.contains(&format!("a Rust toolchain ({oldest} or later)")), "{oldest}");
    assert!(readme.contains(&format!("The oldest Rust that works is {oldest};")), "{oldest}");
    assert!(text("CONTRIBUTING.md").contains(&format!("It is {oldest} for")), "{oldest}");
}

/// A new kind of layer is easily left out where nothing fails without it.
#[test]
fn every_layer_is_in_the_lists_of_the_tests() {
    let registry = text("src/nn/registry.rs");
    let layers: Vec<_> = registry
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.split_once(" => Box::new("))
        .map(|(_, layer)| layer.trim_start_matches("serde_json::from_value::<"))
        .map(|layer| layer.split(|c: char| !c.is_alphanumeric()).next().unwrap())
        .collect();
    assert!(layers.len() >= 20 && layers.contains(&"Lstm") && layers.contains(&"Branches"), "{layers:?}");
    for list in ["tests/allocations.rs", "tests/determinism/levels.rs", "tests/every_level/conform.rs"] {
        let text = text(list);
        let words: Vec<_> = text.split(|c: char| !c.is_alphanumeric()).collect();
        for layer in &layers {
            // Once where it is imported.
            let count = words.iter().filter(|word| *word == layer).count();
            assert!(count >= 2, "{list} does not use {layer}");
        }
    }
}
