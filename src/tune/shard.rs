//! One part of a study that is shared out.

use std::fmt;
use std::str::FromStr;

use crate::{Error, Result};

/// The part of a study with this number, of so many: `3/16` as text.
///
/// # Examples
/// ```
/// use bptt::tune::Shard;
///
/// let shard: Shard = "3/16".parse()?;
/// assert_eq!((shard.number, shard.of), (3, 16));
/// assert_eq!(shard.to_string(), "3/16");
/// assert!("17/16".parse::<Shard>().is_err());
/// # Ok::<(), bptt::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// The number of this part, from 1.
    pub number: usize,
    /// How many parts there are.
    pub of: usize,
}

/// The variables of the processes of one start, their ranks from 0 and their number: Open MPI's, those of MPICH and what is
/// derived from it, those of a step of `srun`.
// Not `SLURM_NTASKS`: a batch script that starts no step has it too, and there is only one process.
const RANKS: [(&str, &str); 3] = [
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
];

impl Shard {
    /// The part of this process by the environment variables that Slurm sets in the tasks of an array, and Open MPI, MPICH and
    /// `srun` in each process; the whole study, `1/1`, if there are none.
    ///
    /// In an array whose tasks start several processes each, every process is a part. An array of a single task, such as one
    /// that repeats a task that failed, does not tell which part that was: give the part as text then.
    ///
    /// # Errors
    /// [`Error::Config`] naming the variable that is not a number, is missing, or does not fit the others, such as the number
    /// of a task in an array with gaps.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    fn from_variables(get: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let number = |name: &str| {
            let text = get(name).ok_or_else(|| Error::config(name, "found nothing, expected a number"))?;
            let bad = || Error::config(name, format!("found {text}, expected a number of at least 0"));
            text.trim().parse::<usize>().map_err(|_| bad())
        };
        let (mut index, mut of) = (0, 1);
        if get("SLURM_ARRAY_TASK_ID").is_some() {
            let [id, first, last, count] =
                ["ID", "MIN", "MAX", "COUNT"].map(|name| number(&format!("SLURM_ARRAY_TASK_{name}")));
            let (id, first, last, count) = (id?, first?, last?, count?);
            // Slurm lists no numbers. Where they have gaps, at least one task does not fit the step that this finds, and fails.
            let step = last.saturating_sub(first).checked_div(count.saturating_sub(1)).unwrap_or(1).max(1);
            let regular = count > 0 && last == first + step * (count - 1) && id >= first && id <= last;
            if !regular || !(id - first).is_multiple_of(step) {
                let expected = "expected one of an array without gaps";
                let fault = format!("found task {id} of {count} from {first} to {last}, {expected}");
                return Err(Error::config("SLURM_ARRAY_TASK_ID", fault));
            }
            (index, of) = ((id - first) / step, count);
        }
        if let Some((rank, size)) = RANKS.into_iter().find(|(rank, size)| get(rank).and(get(size)).is_some())
        {
            let (rank, size) = (number(rank)?, number(size)?);
            (index, of) = (index * size + rank, of * size);
        }
        Self { number: index + 1, of }.check()
    }

    /// Itself, if it exists.
    pub(super) fn check(self) -> Result<Self> {
        if (1..=self.of).contains(&self.number) {
            return Ok(self);
        }
        Err(Error::config("shard", format!("found {self}, expected one of 1/n to n/n")))
    }

    /// The items of this part, every `of`-th: neighbours, which often cost alike, go to different parts.
    pub fn part<T>(self, items: impl IntoIterator<Item = T>) -> Vec<T> {
        items.into_iter().skip(self.number.saturating_sub(1)).step_by(self.of.max(1)).collect()
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Shard {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts = text.split_once('/').and_then(|(n, of)| Some((n.parse().ok()?, of.parse().ok()?)));
        let bad = || Error::config("shard", format!("found {text}, expected a part such as 3/16"));
        let (number, of) = parts.ok_or_else(bad)?;
        Self { number, of }.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &str) -> Result<Shard> {
        let variables: Vec<_> = variables.split_whitespace().filter_map(|v| v.split_once('=')).collect();
        Shard::from_variables(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn array(id: usize, first: usize, last: usize, count: usize) -> String {
        format!(
            "SLURM_ARRAY_TASK_ID={id} SLURM_ARRAY_TASK_MIN={first} SLURM_ARRAY_TASK_MAX={last} \
             SLURM_ARRAY_TASK_COUNT={count} "
        )
    }

    #[test]
    fn what_slurm_and_mpi_set() {
        let cases = [
            (String::new(), "1/1"),
            (array(0, 0, 15, 16), "1/16"),
            (array(3, 1, 16, 16), "3/16"),
            (array(5, 1, 7, 4), "3/4"),
            (array(5, 5, 5, 1), "1/1"),
            ("OMPI_COMM_WORLD_RANK=2 OMPI_COMM_WORLD_SIZE=4 SLURM_PROCID=0 SLURM_NTASKS=1".into(), "3/4"),
            ("PMI_RANK=0 PMI_SIZE=3".into(), "1/3"),
            ("SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=2".into(), "2/2"),
            // A batch script without a step is one process, whatever it has allocated.
            ("SLURM_PROCID=0 SLURM_NTASKS=16".into(), "1/1"),
            (array(3, 1, 4, 4) + "PMI_RANK=1 PMI_SIZE=2", "6/8"),
        ];
        for (variables, expected) in cases {
            assert_eq!(found(&variables).unwrap().to_string(), expected, "{variables}");
        }
    }

    #[test]
    fn what_cannot_be() {
        let cases = [
            // `--array=1,2,5` and `--array=1,2,6`.
            (
                array(2, 1, 5, 3),
                "`SLURM_ARRAY_TASK_ID`: found task 2 of 3 from 1 to 5, expected one of an array",
            ),
            (array(6, 1, 6, 3), "`SLURM_ARRAY_TASK_ID`: found task 6 of 3 from 1 to 6"),
            (array(0, 1, 5, 5), "`SLURM_ARRAY_TASK_ID`: found task 0 of 5"),
            ("SLURM_ARRAY_TASK_ID=1".into(), "`SLURM_ARRAY_TASK_MIN`: found nothing"),
            ("PMI_RANK=x PMI_SIZE=2".into(), "`PMI_RANK`: found x, expected a number"),
            ("PMI_RANK=2 PMI_SIZE=2".into(), "`shard`: found 3/2, expected one of 1/n to n/n"),
        ];
        for (variables, expected) in cases {
            let fault = found(&variables).unwrap_err().to_string();
            assert!(fault.starts_with(expected), "{variables}: {fault}");
        }
        for text in ["", "3", "0/4", "5/4", "3/0", "-1/4", "a/b", "1/2/3"] {
            assert!(text.parse::<Shard>().is_err(), "{text}");
        }
    }
}
