//! Dynamics in files.

use std::ops::RangeInclusive;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Dynamics, ERROR, LOSS, MARGIN, NAMES, PROBABILITY};
use crate::params::{NamedTensor, read_checked, write_checked};
use crate::{Error, Result};

/// The only key of the metadata.
const KEY: &str = "bptt-dynamics";
/// The form that is written.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    epochs: usize,
    samples: usize,
    version: u32,
}

/// The values that each number can have.
fn bounds(name: usize) -> RangeInclusive<f32> {
    match name {
        ERROR => 0.0..=std::f32::consts::SQRT_2,
        LOSS => f32::MIN..=f32::MAX,
        MARGIN => -1.0..=1.0,
        _ => 0.0..=1.0,
    }
}

impl Dynamics {
    /// Writes a safetensors file, by [`atomic_write`](crate::atomic_write): `error`, `loss`, `margin` and `probability`,
    /// each `[epochs, samples]` in single precision, NaN where a sample was not drawn.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::File`] naming the file.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let shape = [self.epochs(), self.samples];
        let tensors: Vec<NamedTensor<'_, f32>> = NAMES
            .iter()
            .zip(&self.values)
            .map(|(&name, values)| (name.to_owned(), shape.to_vec(), &values[..]))
            .collect();
        let content = Content { epochs: shape[0], samples: shape[1], version: VERSION };
        let json = serde_json::to_string(&content).map_err(|e| Error::file(path, e.to_string()))?;
        write_checked(path, tensors, KEY, &json)
    }

    /// Reads a file that [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::File`] naming what is wrong in the file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        Self::parse(path, &bytes)
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let bad = |fault: String| Error::file(path, fault);
        let (file, json) = read_checked(path, bytes, KEY, "dynamics of a training run")?;
        let Content { epochs, samples, version } = serde_json::from_str(&json)
            .map_err(|e| bad(format!("found dynamics that cannot be read: {e}")))?;
        if version != VERSION {
            return Err(bad(format!("found version {version}, expected {VERSION}")));
        }
        let found = file.count();
        if found != NAMES.len() {
            return Err(bad(format!("found {found} tensors, expected {}", NAMES.join(", "))));
        }
        // Nothing is allocated for more than the file has.
        let count = epochs.checked_mul(samples);
        if let Some(name) = NAMES.iter().find(|name| file.len_of(name) != count || count.is_none()) {
            return Err(bad(format!(
                "tensor `{name}`: expected one of {epochs} epochs of {samples} samples"
            )));
        }
        let mut values = NAMES.map(|name| vec![0.0; file.len_of(name).unwrap_or(0)]);
        for (name, values) in NAMES.iter().zip(&mut values) {
            file.read(name, &[epochs, samples], values)?;
        }
        let dynamics = Self { samples, values };
        dynamics.check().map_err(bad)?;
        Ok(dynamics)
    }

    /// Checks each value.
    fn check(&self) -> Result<(), String> {
        for (i, name) in NAMES.iter().enumerate() {
            let drawn = &self.values[PROBABILITY];
            for (place, (value, drawn)) in self.values[i].iter().zip(drawn).enumerate() {
                let missing = value.is_nan() && drawn.is_nan();
                if !missing && !bounds(i).contains(value) || value.is_nan() != drawn.is_nan() {
                    let (sample, epoch) = (place % self.samples, place / self.samples + 1);
                    let [lo, hi] = [bounds(i).start().to_owned(), bounds(i).end().to_owned()];
                    return Err(format!(
                        "tensor `{name}`: found {value} for sample {sample} in epoch {epoch}, expected {lo} to {hi}"
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::dynamics;
    use super::*;

    /// A file of these tensors and this text.
    fn file(path: &Path, dynamics: &Dynamics, json: &str, names: &[&str]) {
        let shape = vec![dynamics.epochs(), dynamics.samples];
        let tensors = names.iter().zip(dynamics.values.iter().cycle());
        let tensors = tensors.map(|(name, values)| ((*name).to_owned(), shape.clone(), &values[..]));
        write_checked(path, tensors.collect(), KEY, json).unwrap();
    }

    #[test]
    fn files_come_back_and_what_is_wrong_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dynamics.safetensors");
        let good = dynamics(&[&[0.75, f32::NAN, 0.5], &[0.5, 0.25, 1.0]]);
        good.save(&path).unwrap();
        let bits = |dynamics: &Dynamics| {
            dynamics.values.each_ref().map(|values| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>())
        };
        let loaded = Dynamics::load(&path).unwrap();
        assert_eq!((loaded.samples, bits(&loaded)), (2, bits(&good)));
        Dynamics::default().save(&path).unwrap();
        assert_eq!(Dynamics::load(&path).unwrap(), Dynamics::default());

        good.save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(Dynamics::parse(&path, &damaged).is_err(), "byte {at}");
        }
        let fault = |dynamics: &Dynamics, json: &str, names: &[&str]| {
            file(&path, dynamics, json, names);
            Dynamics::load(&path).unwrap_err().to_string()
        };
        let json = |epochs: usize, samples: usize, version: u32| {
            serde_json::to_string(&Content { epochs, samples, version }).unwrap()
        };
        let has = |message: String, part: &str| assert!(message.contains(part), "{message}: expected {part}");
        has(fault(&good, &json(3, 2, 2), &NAMES), "found version 2, expected 1");
        has(fault(&good, "{}", &NAMES), "found dynamics that cannot be read: missing field");
        has(fault(&good, &json(2, 2, 1), &NAMES), "tensor `error`: expected one of 2 epochs of 2 samples");
        has(fault(&good, &json(usize::MAX, 2, 1), &NAMES), "tensor `error`: expected one of");
        has(fault(&good, &json(2, 3, 1), &NAMES), "tensor `error`: found F32 [3, 2], expected F32 [2, 3]");
        has(fault(&good, &json(3, 2, 1), &NAMES[..3]), "found 3 tensors, expected error, loss");
        let more = ["error", "loss", "margin", "other"];
        has(fault(&good, &json(3, 2, 1), &more), "tensor `probability`: expected one of 3 epochs");
        let with = |name: usize, value: f32| {
            let mut bad = good.clone();
            bad.values[name][3] = value;
            fault(&bad, &json(3, 2, 1), &NAMES)
        };
        has(with(PROBABILITY, 1.5), "`probability`: found 1.5 for sample 1 in epoch 2, expected 0 to 1");
        has(with(MARGIN, -2.0), "`margin`: found -2 for sample 1 in epoch 2, expected -1 to 1");
        has(with(LOSS, f32::INFINITY), "`loss`: found inf for sample 1");
        has(with(ERROR, f32::NAN), "`error`: found NaN for sample 1");
        let mut bad = good.clone();
        bad.values[LOSS][2] = 1.0;
        has(fault(&bad, &json(3, 2, 1), &NAMES), "`loss`: found 1 for sample 0 in epoch 2");
    }
}
