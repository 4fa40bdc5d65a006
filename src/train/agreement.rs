//! What the ranks of a run agree on between steps: that none has failed, that they are the same, and when to end.

use serde_json::Value;

use super::{AllReduce, Stepper};
use crate::{Error, Model, Real, Result, rng};

/// What a rank brings to an agreement, and what comes of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Vote {
    /// A hash of what must be the same at all ranks.
    pub(super) hash: u64,
    /// Whether the process was asked to stop; afterwards, whether any was.
    pub(super) stop: bool,
    /// Whether a callback has ended the run; afterwards, whether one has at any rank.
    pub(super) over: bool,
}

impl Vote {
    /// The values of a rank in what is exchanged: failed, stop, over, and the halves of the hash, which f64 holds exactly.
    const LEN: usize = 5;

    fn write(self, failed: bool, values: &mut [f64; Self::LEN]) {
        let [stop, over, failed] = [self.stop, self.over, failed].map(|flag| f64::from(u8::from(flag)));
        let low = f64::from(self.hash as u32);
        let high = f64::from((self.hash >> 32) as u32);
        *values = [failed, stop, over, low, high];
    }
}

/// Returns what `done` has if no rank has failed, all have the same hash, and with it what they decide together.
///
/// All ranks come here at the same points of a run, also those that have failed: otherwise the others would wait for them.
/// Every rank has its own place among the values, so that the sum is exact in whatever order it is computed.
///
/// # Errors
/// That of this rank, or which ranks have failed, or have another `what` than rank 0.
pub(super) fn agree<R, T>(
    ranks: Option<&dyn AllReduce<R>>,
    what: &str,
    done: Result<T>,
    vote: Vote,
) -> Result<(T, Vote)> {
    let Some(ranks) = ranks else { return Ok((done?, vote)) };
    let mut values = vec![-0.0; Vote::LEN * ranks.size()];
    let all = values.as_chunks_mut::<{ Vote::LEN }>().0;
    vote.write(done.is_err(), &mut all[ranks.rank()]);
    let reached = ranks.sum(&mut [], &mut values);
    let done = done?;
    reached?;
    let all = values.as_chunks::<{ Vote::LEN }>().0;
    let those = |is: &dyn Fn(&[f64; Vote::LEN]) -> bool| -> Vec<usize> {
        (0..all.len()).filter(|&rank| is(&all[rank])).collect()
    };
    failures(those(&|rank| rank[0] > 0.0))?;
    let other = those(&|rank| rank[3..] != all[0][3..]);
    if !other.is_empty() {
        let fault = format!("found other {what} at {} than at rank 0, expected the same", named(&other));
        return Err(Error::config("all_reduce", fault));
    }
    let any = |i: usize| all.iter().any(|rank| rank[i] > 0.0);
    Ok((done, Vote { hash: vote.hash, stop: any(1), over: any(2) }))
}

/// The error of a rank that has not failed itself, if others have.
pub(super) fn failures(ranks: Vec<usize>) -> Result<()> {
    if ranks.is_empty() {
        return Ok(());
    }
    let fault = format!("found a failure at {}, whose own error says why", named(&ranks));
    Err(Error::config("all_reduce", fault))
}

fn named(ranks: &[usize]) -> String {
    let numbers: Vec<_> = ranks.iter().map(usize::to_string).collect();
    format!("{} {}", if ranks.len() == 1 { "rank" } else { "ranks" }, numbers.join(", "))
}

/// A hash of the bits of parameters, moments and averages.
pub(super) fn hash_of<R: Real>(model: &Model<R>, stepper: &Stepper<'_, R>) -> u64 {
    let carried = stepper.carried();
    let parts = [model.params().as_slice(), carried.moments, carried.average.unwrap_or_default()];
    let values = parts.into_iter().flatten();
    values.fold(0, |hash, value| rng::extend(hash, value.to_f64().to_bits()))
}

/// A hash that continues `hash` by some settings.
pub(super) fn hash_of_settings<'a>(
    hash: u64,
    settings: impl IntoIterator<Item = (&'a String, &'a Value)>,
) -> u64 {
    let texts = settings.into_iter().flat_map(|(name, value)| [name.clone(), value.to_string()]);
    texts.fold(hash, |hash, text| text.bytes().fold(hash, |hash, byte| rng::extend(hash, byte.into())))
}
