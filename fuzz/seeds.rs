//! Writes a valid input for each target into `corpus`, from which the fuzzer goes on.

#[path = "../tests/common/readers.rs"]
mod readers;
#[path = "../tests/common/tensors.rs"]
mod tensors;

use std::fs;
use std::path::Path;

use bptt::params::StateDict;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR"));
    let put = |target: &str, name: &str, bytes: &[u8]| {
        let folder = fuzz.join("corpus").join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), bytes)
    };
    put("model", "small", &readers::small_model().to_bytes()?)?;
    put("model", "other", &readers::other_model().to_bytes()?)?;

    let names = StateDict::new().rename("module.rnn", "rnn").rename("module.fc", "linear");
    fs::create_dir_all(fuzz.join("corpus/state_dict"))?;
    readers::small_model().save_state_dict(fuzz.join("corpus/state_dict/renamed"), &names)?;

    let run = readers::run_file();
    put("run", "run", &run)?;
    put("run", "content", tensors::run_parts(&run).1.as_bytes())?;

    put("idx", "plain", &[0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6])?;
    let labels = fuzz.join("../data/fashion-mnist/t10k-labels-idx1-ubyte.gz");
    if labels.exists() {
        put("idx", "labels.gz", &fs::read(labels)?)?;
    }
    put("study", "study", b"{\"bptt-study\":1}\n{\"config\":{\"n\":2},\"result\":0.5,\"seconds\":0.25}\n")?;

    let old = fuzz.join("../tests/fixtures/old");
    let settings: serde_json::Value = serde_json::from_slice(&fs::read(old.join("settings.json"))?)?;
    for (kind, (name, _)) in (0..).zip(readers::SETTINGS) {
        if let Some(setting) = settings.get(name) {
            put("settings", name, &[&[kind][..], setting.to_string().as_bytes()].concat())?;
        }
    }
    Ok(())
}
