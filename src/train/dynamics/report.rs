//! The samples that stand out.

use std::fmt::{self, Display, Formatter};

use super::Dynamics;
use crate::Result;

/// The samples that stand out in a run, each with its score, the most extreme first; made by [`Dynamics::report`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DynamicsReport {
    /// How many samples there are.
    pub samples: usize,
    /// How many epochs.
    pub epochs: usize,
    /// Those with the largest [`el2n`](Dynamics::el2n).
    pub hardest: Vec<(u32, f64)>,
    /// Those with the most [`forgetting`](Dynamics::forgetting) events, at least one, of those that were right in some epoch.
    pub most_forgotten: Vec<(u32, f64)>,
    /// Those with the smallest [`aum`](Dynamics::aum), but below 0.
    pub mislabelled: Vec<(u32, f64)>,
}

impl Dynamics {
    /// At most `rows` samples each: the hardest, the most forgotten, and those that are probably mislabelled.
    ///
    /// # Errors
    /// [`Error::Mismatch`](crate::Error::Mismatch) naming a sample that was never drawn.
    pub fn report(&self, rows: usize) -> Result<DynamicsReport> {
        let never = self.epochs() as f64;
        let top = |scores: Vec<f64>, counts: &dyn Fn(f64) -> bool| {
            let mut top: Vec<_> = (0..).zip(scores).filter(|&(_, score)| counts(score)).collect();
            // Of equal scores the earlier sample comes first.
            top.sort_by(|a: &(u32, f64), b| b.1.total_cmp(&a.1));
            top.truncate(rows);
            top
        };
        let margins = self.aum()?.into_iter().map(|margin| -margin).collect();
        let mislabelled = top(margins, &|score| score > 0.0);
        Ok(DynamicsReport {
            samples: self.samples,
            epochs: self.epochs(),
            hardest: top(self.el2n()?, &|_| true),
            most_forgotten: top(self.forgetting()?, &|times| times > 0.0 && times < never),
            mislabelled: mislabelled.into_iter().map(|(sample, score)| (sample, -score)).collect(),
        })
    }
}

/// Three columns of samples with their scores.
impl Display for DynamicsReport {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { samples, epochs, hardest, most_forgotten, mislabelled } = self;
        writeln!(f, "{samples} samples, {epochs} epochs")?;
        writeln!(f, "hardest               most forgotten        probably mislabelled")?;
        write!(f, "    sample     EL2N       sample    times       sample   margin")?;
        let rows = hardest.len().max(most_forgotten.len()).max(mislabelled.len());
        for row in 0..rows {
            let cell = |column: &[(u32, f64)], digits: usize| match column.get(row) {
                Some((sample, score)) => format!("{sample:>10} {score:>8.digits$}"),
                None => String::new(),
            };
            let (first, second, third) = (cell(hardest, 3), cell(most_forgotten, 0), cell(mislabelled, 3));
            write!(f, "\n{}", format!("{first:19}   {second:19}   {third}").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::dynamics;

    #[test]
    fn what_stands_out() {
        let dynamics = dynamics(&[&[0.75, 0.25, 0.75], &[0.125, 0.25, 0.125], &[0.5, 0.75, 1.0], &[0.75; 3]]);
        let report = dynamics.report(2).unwrap();
        assert_eq!(report.hardest.iter().map(|row| row.0).collect::<Vec<_>>(), [1, 0]);
        // Sample 1 was never right.
        assert_eq!(report.most_forgotten, [(0, 1.0)]);
        assert_eq!(report.mislabelled, [(1, -2.0 / 3.0)]);
        let expected = "\
4 samples, 3 epochs
hardest               most forgotten        probably mislabelled
    sample     EL2N       sample    times       sample   margin
         1    1.179            0        1            1   -0.667
         0    0.589";
        assert_eq!(report.to_string(), expected);
    }
}
