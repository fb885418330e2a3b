//! What Cargo.toml promises: the oldest Rust, the features, and the crates whose types are in the API.

use std::{fmt::Write as _, path::Path, process::Command};

use serde_json::Value;

pub(crate) fn facts(manifest: &Path, crates: &[String]) -> String {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(manifest);
    let output = cargo.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let ours = packages.iter().find(|package| package["name"] == "unsubscribe-webhook");
    let ours = ours.expect("the library's package");

    let mut facts = String::new();
    let mut line = |text: String| writeln!(facts, "// {text}").expect("a string takes all");
    line(format!("rust-version: {}", ours["rust_version"].as_str().expect("a version")));
    for (feature, enables) in ours["features"].as_object().expect("features") {
        line(format!("feature {feature}: {enables}"));
    }
    let dependencies = ours["dependencies"].as_array().expect("dependencies");
    for dependency in dependencies.iter().filter(|dependency| dependency["kind"].is_null()) {
        let package = dependency["name"].as_str().expect("a name");
        let name = dependency["rename"].as_str().unwrap_or(package).replace('-', "_");
        if crates.contains(&name) {
            let required = dependency["req"].as_str().expect("versions");
            line(format!("types of {package} {}", series(required)));
        }
    }
    facts
}

/// What of a requirement a break changes: `1` of `^1.0.210`, `0.5` of `^0.5.2`.
fn series(required: &str) -> &str {
    let Some(version) = required.strip_prefix('^') else { return required };
    let parts = if version.starts_with("0.") { 2 } else { 1 };
    version.match_indices('.').nth(parts - 1).map_or(version, |(end, _)| &version[..end])
}
