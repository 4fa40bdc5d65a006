//! Samples that follow one another, as streams side by side.

use super::{Draw, Population, Sampler};
use crate::{Description, Error, Result};

/// Contiguous streams side by side, one for each sample of a batch: each batch has the next sample of each stream.
///
/// The samples are cut into runs of n / streams consecutive ones, of which stream b is the b-th; the last n % streams samples
/// are left out. Nothing is shuffled. This is what [`Trainer::stateful`](crate::Trainer::stateful) draws.
///
/// # Examples
/// ```
/// use bptt::data::{Population, Sampler, SequentialStreams};
///
/// let (mut sampler, mut draws) = (SequentialStreams::new(), Vec::new());
/// sampler.start(&Population::new(11, 3))?;
/// sampler.draw(1, &mut draws)?;
/// assert!(draws.iter().map(|draw| draw.index).eq([0, 3, 6, 1, 4, 7, 2, 5, 8]));
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct SequentialStreams {
    streams: usize,
    steps: usize,
}

impl SequentialStreams {
    /// One stream for each sample of a batch.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Sampler for SequentialStreams {
    fn describe(&self) -> Description {
        Description::new("SequentialStreams", ())
    }

    fn start(&mut self, population: &Population) -> Result<()> {
        let (n, streams) = (population.len, population.batch_size);
        if n < streams {
            let expected = format!("one for each of {streams} streams");
            return Err(Error::mismatch("dataset", format!("{n} samples"), expected));
        }
        (self.streams, self.steps) = (streams, n / streams);
        Ok(())
    }

    fn draw(&mut self, _: usize, draws: &mut Vec<Draw>) -> Result<()> {
        for step in 0..self.steps {
            draws.extend((0..self.streams).map(|stream| Draw::new((stream * self.steps + step) as u32)));
        }
        Ok(())
    }

    fn draws(&self) -> Option<usize> {
        Some(self.streams * self.steps)
    }

    fn keeps_streams(&self) -> bool {
        true
    }
}
