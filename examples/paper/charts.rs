//! The histogram of a layer's weights.

use bptt::plot::{Bars, Chart};

/// Counts of bins of this width around their middles, before and after, one behind the other. The bin around 0 may be
/// far larger than all others after pruning; it is cut off, and its count written beside it.
pub fn histogram(title: &str, bin: f64, before: &[u64], after: &[u64]) -> Chart {
    let middle = before.len() / 2;
    let others = (0..before.len()).filter(|&i| i != middle).map(|i| before[i].max(after[i]));
    let top = 1.25 * before.get(middle).copied().unwrap_or(0).max(others.max().unwrap_or(0)).max(4) as f64;
    let bars = |name, color, counts: Vec<u64>| {
        let place = |i: usize| (i as f64 - middle as f64) * bin;
        let points = counts.into_iter().enumerate().map(|(i, count)| (place(i), count as f64));
        Bars::new(name, bin, color, points.collect::<Vec<_>>())
    };
    // What did not change is drawn once: edges of the colour below would show.
    let changed = before.iter().zip(after).map(|(&before, &after)| if before > after { before } else { 0 });
    let chart = Chart::new(title, "weight", "weights")
        .range(0.0..top)
        .bars(bars("before", 1, changed.collect()))
        .bars(bars("after", 0, after.to_vec()));
    match after.get(middle) {
        Some(&zeros) if zeros as f64 > top => chart.note((0.0, top), format!("{zeros} around 0")),
        _ => chart,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_show_what_went() {
        let svg = histogram("layer", 0.1, &[2, 5, 6, 5, 2], &[2, 0, 16, 5, 2]).svg().unwrap();
        assert!(svg.contains("16 around 0"));
        let count =
            |color| svg.lines().filter(|line| line.starts_with("<rect") && line.contains(color)).count();
        // The legend's, and the one bin that lost weights; of the others the legend's and four.
        assert_eq!((count("#C84614"), count("#1F77B4")), (2, 5));
    }
}
