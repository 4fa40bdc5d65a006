//! The space of configurations.

use std::ops::RangeInclusive;

use rand::RngCore;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::{Error, Result, math, rng};

/// Separates these draws from all others with the same seed.
const SPACE: u64 = u64::from_be_bytes(*b"space\0\0\0");

/// The possible values of each setting. The names are the fields of the configuration's type.
///
/// # Examples
/// ```
/// use bptt::tune::Space;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Config {
///     cell: Cell,
///     layers: usize,
///     #[serde(default)]
///     lr: f64,
/// }
///
/// #[derive(Serialize, Deserialize, PartialEq, Debug)]
/// enum Cell {
///     Lstm,
///     Gru,
/// }
///
/// let space = Space::new().choice("cell", [Cell::Lstm, Cell::Gru]).integer("layers", 1..=3);
/// let grid: Vec<Config> = space.grid()?;
/// assert_eq!((grid.len(), &grid[3].cell, grid[3].layers), (6, &Cell::Gru, 1));
///
/// let some: Vec<Config> = space.log_uniform("lr", 1e-4, 1e-1).random(20, 1)?;
/// assert!(some.iter().all(|config| (1e-4..=1e-1).contains(&config.lr)));
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Space {
    settings: Vec<(String, Values)>,
}

#[derive(Clone, Debug)]
enum Values {
    /// Any of these, or serde's error in writing them as JSON.
    Choice(Result<Vec<Value>, String>),
    Integer(RangeInclusive<i64>),
    Uniform(f64, f64),
    LogUniform(f64, f64),
}

impl Space {
    /// A space without settings.
    pub fn new() -> Self {
        Self::default()
    }

    /// One of these values, uniformly at random.
    pub fn choice<T: Serialize>(self, name: &str, values: impl IntoIterator<Item = T>) -> Self {
        let values: Result<_, _> = values.into_iter().map(serde_json::to_value).collect();
        self.with(name, Values::Choice(values.map_err(|e| e.to_string())))
    }

    /// An integer in this range, uniformly at random.
    pub fn integer(self, name: &str, range: RangeInclusive<i64>) -> Self {
        self.with(name, Values::Integer(range))
    }

    /// A number between two, uniformly at random. Not for grids.
    pub fn uniform(self, name: &str, from: f64, to: f64) -> Self {
        self.with(name, Values::Uniform(from, to))
    }

    /// A number between two whose logarithm is uniform, which suits learning rates. Not for grids.
    pub fn log_uniform(self, name: &str, from: f64, to: f64) -> Self {
        self.with(name, Values::LogUniform(from, to))
    }

    fn with(mut self, name: &str, values: Values) -> Self {
        self.settings.push((name.into(), values));
        self
    }

    /// Every combination; the setting named last changes fastest.
    ///
    /// # Errors
    /// [`Error::Config`] naming a setting that has no values, or not a finite number of them, or is named twice; or saying
    /// why the combinations cannot be read as type `C`.
    pub fn grid<C: DeserializeOwned>(&self) -> Result<Vec<C>> {
        self.check()?;
        let mut grid = vec![Map::new()];
        for (name, values) in &self.settings {
            let values = values.all().map_err(|fault| Error::config(name, fault))?;
            let with = |config: &Map<_, _>, value: &Value| {
                let mut config = config.clone();
                config.insert(name.clone(), value.clone());
                config
            };
            grid =
                grid.iter().flat_map(|config| values.iter().map(move |value| with(config, value))).collect();
        }
        grid.into_iter().map(typed).collect()
    }

    /// `n` configurations at random. With the same seed, a larger `n` begins with the same configurations.
    ///
    /// # Errors
    /// As for [`grid`](Self::grid), except that ranges of numbers are valid.
    ///
    /// # Source
    /// Bergstra & Bengio 2012, "Random search for hyper-parameter optimization".
    pub fn random<C: DeserializeOwned>(&self, n: usize, seed: u64) -> Result<Vec<C>> {
        self.check()?;
        let draw = |i: usize| {
            let settings = self.settings.iter().enumerate().map(|(setting, (name, values))| {
                let mut rng = rng::rng(rng::key(&[seed, SPACE, i as u64, setting as u64]));
                (name.clone(), values.draw(&mut rng))
            });
            typed(settings.collect())
        };
        (0..n).map(draw).collect()
    }

    fn check(&self) -> Result<()> {
        for (i, (name, values)) in self.settings.iter().enumerate() {
            if self.settings[..i].iter().any(|(other, _)| other == name) {
                return Err(Error::config(name, "found twice, expected once"));
            }
            values.check().map_err(|fault| Error::config(name, fault))?;
        }
        Ok(())
    }
}

impl Values {
    fn check(&self) -> Result<(), String> {
        match self {
            Self::Choice(Err(fault)) => Err(format!("found a value that cannot be written as JSON: {fault}")),
            Self::Choice(Ok(values)) if values.is_empty() => {
                Err("found no values, expected at least one".into())
            }
            Self::Integer(range) if range.is_empty() => {
                Err(format!("found {range:?}, expected the second to be at least the first"))
            }
            Self::Uniform(from, to) if !(from < to && (to - from).is_finite()) => {
                Err(format!("found {from} to {to}, expected the second to be more than the first"))
            }
            Self::LogUniform(from, to) if !(0.0 < *from && from < to && to.is_finite()) => Err(format!(
                "found {from} to {to}, expected positive numbers, the second more than the first"
            )),
            _ => Ok(()),
        }
    }

    fn all(&self) -> Result<Vec<Value>, String> {
        match self {
            Self::Choice(values) => values.clone(),
            Self::Integer(range) => Ok(range.clone().map(Value::from).collect()),
            Self::Uniform(from, to) | Self::LogUniform(from, to) => {
                Err(format!("found all numbers from {from} to {to}, expected a choice or integers in a grid"))
            }
        }
    }

    /// One of the values, from one draw.
    fn draw(&self, rng: &mut impl RngCore) -> Value {
        match self {
            Self::Choice(values) => {
                let values = values.as_deref().unwrap_or_default();
                values[rng::below(rng, values.len() as u64) as usize].clone()
            }
            Self::Integer(range) => {
                // All of i64 has 2⁶⁴ values, one more than u64 can count.
                let most = range.end().wrapping_sub(*range.start()) as u64;
                range.start().wrapping_add(rng::below(rng, most.saturating_add(1)) as i64).into()
            }
            Self::Uniform(from, to) => (from + (to - from) * rng::unit(rng)).into(),
            Self::LogUniform(from, to) => {
                let (low, high) = (math::ln(*from), math::ln(*to));
                math::exp(low + (high - low) * rng::unit(rng)).clamp(*from, *to).into()
            }
        }
    }
}

fn typed<C: DeserializeOwned>(settings: Map<String, Value>) -> Result<C> {
    let config = Value::Object(settings);
    C::deserialize(&config).map_err(|e| {
        Error::config(config.to_string(), format!("found values that are not a configuration: {e}"))
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Config {
        name: String,
        size: u8,
        #[serde(default)]
        rate: f64,
    }

    fn space() -> Space {
        Space::new().choice("name", ["a", "b"]).integer("size", 3..=5)
    }

    #[test]
    fn a_grid_has_every_combination_once_and_in_order() {
        let grid: Vec<Config> = space().grid().unwrap();
        let found: Vec<_> = grid.iter().map(|c| (c.name.as_str(), c.size)).collect();
        assert_eq!(found, [("a", 3), ("a", 4), ("a", 5), ("b", 3), ("b", 4), ("b", 5)]);
        assert_eq!(Space::new().grid::<Value>().unwrap(), [Value::Object(Map::new())]);
    }

    #[test]
    fn draws_are_seeded_and_even() {
        let space = space().log_uniform("rate", 1e-4, 1.0);
        let draws: Vec<Config> = space.random(3000, 7).unwrap();
        assert_eq!(space.random::<Config>(10, 7).unwrap(), draws[..10]);
        assert_ne!(space.random::<Config>(10, 8).unwrap(), draws[..10]);
        // Standard deviations: √(3000 · 1/3 · 2/3) = 26, √(3000 / 4) = 27.
        for size in 3..=5 {
            let count = draws.iter().filter(|c| c.size == size).count() as i64;
            assert!((count - 1000).abs() < 5 * 26, "{count} of {size}");
        }
        for half in
            [draws.iter().filter(|c| c.name == "a").count(), draws.iter().filter(|c| c.rate < 1e-2).count()]
        {
            assert!((half as i64 - 1500).abs() < 5 * 27, "{half}");
        }
    }

    #[test]
    fn numbers_stay_in_their_ranges() {
        #[derive(Deserialize)]
        struct Numbers {
            any: i64,
            x: f64,
        }
        let space = Space::new().integer("any", i64::MIN..=i64::MAX).uniform("x", -2.0, 3.0);
        let draws: Vec<Numbers> = space.random(500, 1).unwrap();
        assert!(draws.iter().all(|n| (-2.0..3.0).contains(&n.x)));
        let mean = draws.iter().map(|n| n.x).sum::<f64>() / 500.0;
        assert!((mean - 0.5).abs() < 5.0 * (25.0f64 / 12.0 / 500.0).sqrt(), "{mean}");
        let negative = draws.iter().filter(|n| n.any < 0).count() as i64;
        assert!((negative - 250).abs() < 5 * 12, "{negative}");
    }

    #[test]
    fn invalid_settings() {
        let fault = |space: Space| space.grid::<Value>().unwrap_err().to_string();
        assert_eq!(fault(Space::new().choice::<u8>("x", [])), "`x`: found no values, expected at least one");
        #[expect(clippy::reversed_empty_ranges, reason = "it is what is tested")]
        let reversed = Space::new().integer("x", 2..=1);
        assert!(fault(reversed).starts_with("`x`: found 2..=1, expected"));
        assert!(fault(Space::new().uniform("x", 1.0, 1.0)).starts_with("`x`: found 1 to 1, expected"));
        assert!(fault(Space::new().log_uniform("x", 0.0, 1.0)).contains("expected positive numbers"));
        assert!(fault(Space::new().uniform("x", f64::NAN, 1.0)).contains("found NaN to 1"));
        assert!(
            fault(Space::new().uniform("x", 0.0, 1.0)).contains("expected a choice or integers in a grid")
        );
        assert_eq!(fault(space().choice("size", [1])), "`size`: found twice, expected once");
        let keys = [std::collections::HashMap::from([((1, 2), 3)])];
        assert!(
            fault(Space::new().choice("x", keys)).contains("found a value that cannot be written as JSON")
        );
        let fault = Space::new().choice("name", ["a"]).grid::<Config>().unwrap_err().to_string();
        assert_eq!(
            fault,
            "`{\"name\":\"a\"}`: found values that are not a configuration: missing field `size`"
        );
    }
}
