//! Labels read from outputs that were trained by CTC.

use std::collections::BTreeMap;

use ndarray::{ArrayBase, Data, Ix2};

use super::Ctc;
use super::ctc::{log_add, log_softmax};
use crate::Real;

impl Ctc {
    /// The labels of the best path: the class with the largest output of each step, without repetitions and blanks. Of
    /// equal outputs, the first counts.
    ///
    /// `y` is one sample's outputs, `[T, C]`; leave out the steps beyond its length.
    ///
    /// # Examples
    /// ```
    /// use bptt::loss::Ctc;
    /// use ndarray::array;
    ///
    /// let y = array![[0.1, 0.9], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]];
    /// assert_eq!(Ctc::new().greedy(&y), [1, 1]);
    /// ```
    pub fn greedy<R: Real>(&self, y: &ArrayBase<impl Data<Elem = R>, Ix2>) -> Vec<usize> {
        let best = |row: ndarray::ArrayView1<'_, R>| {
            let larger = |best: usize, k: usize| if row[k] > row[best] { k } else { best };
            (0..row.len()).fold(0, larger)
        };
        let mut path: Vec<usize> = y.rows().into_iter().map(best).collect();
        path.dedup();
        path.retain(|&class| class != self.blank_class());
        path
    }

    /// The most probable label sequences with ln p, the best first, by a search that keeps `width` prefixes at each step.
    /// p is the sum over the paths that were not dropped, so at most the true one.
    ///
    /// `y` is one sample's outputs, `[T, C]`; leave out the steps beyond its length.
    ///
    /// # Source
    /// Graves & Jaitly 2014, algorithm 1, without a language model.
    /// # Examples
    /// Here the best path is not of the best labels: it reads as nothing, with p = 0.36, but three paths read as one label.
    /// ```
    /// use bptt::loss::Ctc;
    /// use ndarray::array;
    ///
    /// let y = array![[0.6_f64, 0.4], [0.6, 0.4]].mapv(f64::ln);
    /// assert!(Ctc::new().greedy(&y).is_empty());
    /// let found = Ctc::new().beam(&y, 5);
    /// assert_eq!(found[0].0, [1]);
    /// assert!((found[0].1.exp() - 0.64).abs() < 1e-12);
    /// ```
    pub fn beam<R: Real>(
        &self,
        y: &ArrayBase<impl Data<Elem = R>, Ix2>,
        width: usize,
    ) -> Vec<(Vec<usize>, f64)> {
        let mut beam = vec![(Vec::new(), Ends { blank: 0.0, label: f64::NEG_INFINITY })];
        for row in y.rows() {
            let mut log_p: Vec<f64> = row.iter().map(|y| y.to_f64()).collect();
            log_softmax(&mut log_p);
            beam = self.extend(beam, &log_p);
            beam.sort_by(|(a, p), (b, q)| q.total().total_cmp(&p.total()).then_with(|| a.cmp(b)));
            beam.truncate(width.max(1));
        }
        beam.into_iter().map(|(labels, ends)| (labels, ends.total())).collect()
    }

    /// All prefixes after another step.
    fn extend(&self, beam: Vec<(Vec<usize>, Ends)>, log_p: &[f64]) -> Vec<(Vec<usize>, Ends)> {
        let mut next: BTreeMap<Vec<usize>, Ends> = BTreeMap::new();
        for (prefix, ends) in beam {
            for (class, &log_p) in log_p.iter().enumerate() {
                let repeated = prefix.last() == Some(&class);
                if class == self.blank_class() {
                    let same = next.entry(prefix.clone()).or_default();
                    same.blank = log_add(same.blank, ends.total() + log_p);
                    continue;
                }
                if repeated {
                    let same = next.entry(prefix.clone()).or_default();
                    same.label = log_add(same.label, ends.label + log_p);
                }
                // After a blank, the same label is another one.
                let before = if repeated { ends.blank } else { ends.total() };
                if before > f64::NEG_INFINITY {
                    let longer = next.entry([&prefix[..], &[class]].concat()).or_default();
                    longer.label = log_add(longer.label, before + log_p);
                }
            }
        }
        next.into_iter().collect()
    }
}

/// ln p of the paths that read as a prefix, by what they end with.
#[derive(Clone, Copy, Debug)]
struct Ends {
    blank: f64,
    label: f64,
}

impl Default for Ends {
    fn default() -> Self {
        Self { blank: f64::NEG_INFINITY, label: f64::NEG_INFINITY }
    }
}

impl Ends {
    fn total(self) -> f64 {
        log_add(self.blank, self.label)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ndarray::{Array2, array};

    use super::*;

    /// What each of all paths of five steps over three classes reads as, with its probability.
    fn all(y: &Array2<f64>, blank: usize) -> BTreeMap<Vec<usize>, f64> {
        let mut found = BTreeMap::new();
        for path in 0..3_usize.pow(5) {
            let path: Vec<usize> = (0..5).map(|t| path / 3_usize.pow(t) % 3).collect();
            let p = |t: usize| y[[t, path[t]]].exp() / y.row(t).mapv(f64::exp).sum();
            let probability: f64 = (0..5).map(p).product();
            let mut labels = path.clone();
            labels.dedup();
            labels.retain(|&class| class != blank);
            *found.entry(labels).or_insert(0.0) += probability;
        }
        found
    }

    #[test]
    fn a_wide_beam_finds_all_sequences() {
        for blank in 0..3 {
            let y = Array2::from_shape_fn((5, 3), |(t, k)| ((5 * t + 7 * k + blank) % 11) as f64 / 4.0);
            let expected = all(&y, blank);
            let found = Ctc::new().blank(blank).beam(&y, 1000);
            assert!(found.windows(2).all(|pair| pair[0].1 >= pair[1].1));
            assert_eq!(found.len(), expected.len());
            for (labels, log_p) in found {
                approx::assert_abs_diff_eq!(log_p.exp(), expected[&labels], epsilon = 1e-13);
            }
        }
    }

    #[test]
    fn a_narrow_beam_is_a_lower_bound() {
        let y = Array2::from_shape_fn((5, 3), |(t, k)| ((5 * t + 7 * k) % 11) as f64 / 4.0);
        let found = Ctc::new().beam(&y, 2);
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|(labels, log_p)| log_p.exp() <= all(&y, 0)[labels] + 1e-13));
    }

    #[test]
    fn best_paths() {
        let y =
            array![[9.0_f32, 0.0, 1.0], [0.0, 9.0, 1.0], [0.0, 9.0, 1.0], [9.0, 0.0, 1.0], [0.0, 9.0, 1.0]];
        assert_eq!(Ctc::new().greedy(&y), [1, 1]);
        assert_eq!(Ctc::new().blank(2).greedy(&y), [0, 1, 0, 1]);
        assert_eq!(Ctc::new().greedy(&Array2::<f32>::zeros((0, 3))), [0_usize; 0]);
        assert_eq!(Ctc::new().beam(&Array2::<f32>::zeros((0, 3)), 4), [(vec![], 0.0)]);
    }
}
