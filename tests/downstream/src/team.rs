//! A custom all-reduce: the ranks are threads of one process, with channels between them.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use bptt::train::AllReduce;
use bptt::{Error, Real, Result};

/// Gradients and counts.
type Parts<R> = (Vec<R>, Vec<f64>);

/// This rank's ends of the two channels to another one. The other ends are gone once that rank has failed, so no rank waits
/// for one that will not come.
#[derive(Debug)]
struct Link<R> {
    /// The other rank.
    rank: usize,
    to: Sender<Parts<R>>,
    /// A receiver belongs to one thread at a time; only the thread that trains ever locks it.
    from: Mutex<Receiver<Parts<R>>>,
}

impl<R: Real> Link<R> {
    /// A link from `a` to `b`, and the one back.
    fn pair(a: usize, b: usize) -> (Self, Self) {
        let ((to_b, from_a), (to_a, from_b)) = (channel(), channel());
        let link = |rank, to, from| Self { rank, to, from: Mutex::new(from) };
        (link(b, to_b, from_b), link(a, to_a, from_a))
    }

    fn lost(&self) -> Error {
        Error::config("team", format!("found rank {} gone, expected it to take part", self.rank))
    }

    fn send(&self, grads: &[R], counts: &[f64]) -> Result<()> {
        self.to.send((grads.to_vec(), counts.to_vec())).map_err(|_| self.lost())
    }

    fn receive(&self) -> Result<Parts<R>> {
        let from = self.from.lock().expect("nothing panics while it is locked");
        from.recv().map_err(|_| self.lost())
    }
}

/// One rank of a team of threads, which form a tree: a rank's parent is its number without the lowest bit that is set.
///
/// ```text
/// 0 ← 1    0 ← 2 ← 3    0 ← 4 ← 5    4 ← 6 ← 7
/// ```
#[derive(Debug)]
pub struct Rank<R> {
    rank: usize,
    size: usize,
    parent: Option<Link<R>>,
    /// The nearest first, so that sums run in pairs, then in pairs of pairs: this gives the bits of one process.
    children: Vec<Link<R>>,
}

/// The ranks of a team, one for each thread.
pub fn team<R: Real>(size: usize) -> Vec<Rank<R>> {
    let alone = |rank| Rank { rank, size, parent: None, children: Vec::new() };
    let mut ranks: Vec<_> = (0..size).map(alone).collect();
    for child in 1..size {
        let parent = child & (child - 1);
        let (down, up) = Link::pair(parent, child);
        ranks[parent].children.push(down);
        ranks[child].parent = Some(up);
    }
    ranks
}

impl<R: Real> AllReduce<R> for Rank<R> {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    /// Adds up what comes from the children, sends it to the parent, and returns the parent's total to the children.
    fn sum(&self, grads: &mut [R], counts: &mut [f64]) -> Result<()> {
        for child in &self.children {
            let (their_grads, their_counts) = child.receive()?;
            grads.iter_mut().zip(their_grads).for_each(|(sum, g)| *sum += g);
            counts.iter_mut().zip(their_counts).for_each(|(sum, count)| *sum += count);
        }
        if let Some(parent) = &self.parent {
            parent.send(grads, counts)?;
            let (total_grads, total_counts) = parent.receive()?;
            grads.copy_from_slice(&total_grads);
            counts.copy_from_slice(&total_counts);
        }
        self.children.iter().try_for_each(|child| child.send(grads, counts))
    }
}
