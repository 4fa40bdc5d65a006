//! The metrics against scikit-learn's values, from `tests/fixtures/make_metrics_fixture.py`.

use approx::assert_abs_diff_eq;
use ndarray::Array2;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Fixture {
    binary: Vec<Binary>,
    classes: Vec<Classes>,
}

#[derive(Deserialize)]
struct Binary {
    truth: Vec<bool>,
    scores: Vec<f64>,
    roc_auc: f64,
    average_precision: f64,
    share: Vec<f64>,
    probability: Vec<f64>,
    expected_error: f64,
}

#[derive(Deserialize)]
struct Classes {
    names: Vec<String>,
    truth: Vec<i64>,
    logits: Vec<Vec<f64>>,
    log_loss: f64,
    top: Vec<f64>,
    roc_auc: f64,
    matthews: f64,
    kappa: f64,
    report: String,
    expected_error: f64,
    temperature: f64,
    log_loss_at_temperature: f64,
}

fn fixture() -> Fixture {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/metrics.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

impl Classes {
    fn truth(&self) -> impl Iterator<Item = i64> + '_ {
        self.truth.iter().copied()
    }

    fn logits(&self) -> Array2<f64> {
        let rows = self.logits.iter().flatten().copied().collect();
        Array2::from_shape_vec((self.truth.len(), self.names.len()), rows).unwrap()
    }

    fn probabilities(&self) -> Array2<f64> {
        let mut p = self.logits().mapv(f64::exp);
        p.rows_mut().into_iter().for_each(|mut row| {
            let sum = row.sum();
            row /= sum;
        });
        p
    }

    fn matrix(&self) -> ConfusionMatrix {
        let mut matrix = ConfusionMatrix::new(self.names.len()).with_names(self.names.clone()).unwrap();
        for (&truth, row) in self.truth.iter().zip(self.logits().rows()) {
            let largest = row.iter().copied().fold(f64::MIN, f64::max);
            matrix.add(truth as usize, row.iter().position(|&y| y == largest).unwrap());
        }
        matrix
    }
}

#[test]
fn ranking() {
    let fixture = fixture();
    assert_eq!(fixture.binary.len(), 3);
    for case in fixture.binary {
        let truth = || case.truth.iter().copied();
        assert_abs_diff_eq!(roc_auc(truth(), &case.scores).unwrap(), case.roc_auc, epsilon = 1e-14);
        let precision = average_precision(truth(), &case.scores).unwrap();
        assert_abs_diff_eq!(precision, case.average_precision, epsilon = 1e-14);
        // The order of samples, and a scale, change nothing.
        let scores: Vec<f32> = case.scores.iter().rev().map(|p| *p as f32 * 8.0 - 4.0).collect();
        assert_abs_diff_eq!(roc_auc(truth().rev(), &scores).unwrap(), case.roc_auc, epsilon = 1e-14);
    }
    for case in fixture.classes {
        let p = case.probabilities();
        assert_abs_diff_eq!(roc_auc_macro(case.truth(), &p).unwrap(), case.roc_auc, epsilon = 1e-14);
    }
}

#[test]
fn reliability() {
    let fixture = fixture();
    for case in fixture.binary {
        let calibration = Calibration::new(case.truth, &case.scores, 8).unwrap();
        let shares: Vec<_> = calibration.bins().iter().filter_map(|bin| bin.share).collect();
        let probabilities: Vec<_> = calibration.bins().iter().filter_map(|bin| bin.probability).collect();
        approx::assert_abs_diff_eq!(shares[..], case.share[..], epsilon = 1e-14);
        approx::assert_abs_diff_eq!(probabilities[..], case.probability[..], epsilon = 1e-14);
        assert_abs_diff_eq!(calibration.expected_error(), case.expected_error, epsilon = 1e-14);
        assert!(calibration.largest_error() >= calibration.expected_error());
    }
    for case in fixture.classes {
        let calibration = Calibration::of_classes(case.truth(), &case.probabilities(), 10).unwrap();
        assert_abs_diff_eq!(calibration.expected_error(), case.expected_error, epsilon = 1e-14);
    }
}

#[test]
fn scores_of_classes() {
    let fixture = fixture();
    assert_eq!(fixture.classes.len(), 3);
    for case in fixture.classes {
        let (logits, p) = (case.logits(), case.probabilities());
        assert_abs_diff_eq!(log_loss(case.truth(), &p).unwrap(), case.log_loss, epsilon = 1e-13);
        for (k, &expected) in (1..).zip(&case.top) {
            assert_abs_diff_eq!(top_k_accuracy(case.truth(), &logits, k).unwrap(), expected, epsilon = 1e-15);
        }
        let temperature = Temperature::fit(case.truth(), &logits).unwrap();
        approx::assert_relative_eq!(temperature.value(), case.temperature, max_relative = 1e-11);
        let loss = log_loss(case.truth(), &temperature.probabilities(&logits)).unwrap();
        assert_abs_diff_eq!(loss, case.log_loss_at_temperature, epsilon = 1e-13);
    }
}

#[test]
fn matrices() {
    for case in fixture().classes {
        let matrix = case.matrix();
        assert_abs_diff_eq!(matrix.matthews(), case.matthews, epsilon = 1e-14);
        assert_abs_diff_eq!(matrix.cohens_kappa(), case.kappa, epsilon = 1e-14);
        assert_eq!(format!("{}\n", matrix.report()), case.report);
    }
    let one = ConfusionMatrix::from_rows(&[[4, 0], [0, 0]]).unwrap();
    assert_eq!([one.matthews(), one.cohens_kappa()], [0.0, 1.0]);
    let none = ConfusionMatrix::new(2);
    assert_eq!([none.matthews(), none.cohens_kappa(), none.f1_weighted()], [0.0; 3]);
}

#[test]
fn rows_without_a_class_do_not_count() {
    let p = ndarray::array![[0.5, 0.5], [0.9, 0.1], [0.25, 0.75]];
    let without = ndarray::array![[0.5, 0.5], [0.25, 0.75]];
    assert_eq!(log_loss([0, -100, 1], &p).unwrap(), log_loss([0_u8, 1], &without).unwrap());
    assert_eq!(top_k_accuracy([1, -1, 1], &p, 1).unwrap(), 0.5);
    assert_eq!(log_loss([1, 0], &ndarray::array![[1.0, 0.0], [1.0, 0.0]]).unwrap(), -f64::EPSILON.ln() / 2.0);
}

#[test]
fn invalid_scores() {
    let p = ndarray::array![[0.5, 0.5], [0.25, 0.75]];
    let logits = ndarray::array![[2.0, 0.0], [0.0, 1.0]]; // each largest for its class, so no temperature is best
    let empty = Array2::<f64>::zeros((0, 2));
    for (result, fault) in [
        (log_loss([0], &p), "log loss: found 1 classes, expected 2 rows of scores"),
        (log_loss([0, 2], &p), "log loss: found class 2, expected one of 0..2"),
        (log_loss([-1, -1], &p), "log loss: found no class that counts, expected at least one"),
        (log_loss([0, 1], &logits), "log loss: found 2, expected a probability, from 0 to 1"),
        (
            log_loss([0, 1], &(&p * 0.5)),
            "log loss: found a row with the sum 0.5, expected probabilities, with the sum 1",
        ),
        (log_loss([0; 0], &empty), "log loss: found no scores, expected at least one row"),
        (top_k_accuracy([0, 1], &(&p * f64::NAN), 1), "top-k accuracy: found NaN, expected a number"),
        (
            roc_auc([true, true], &[1.0, 2.0]),
            "ROC-AUC: found 2 positives and 0 negatives, expected at least one of each",
        ),
        (roc_auc([true, false], &[1.0, f64::NAN]), "ROC-AUC: score 1: found NaN, expected a number"),
        (roc_auc([true], &[1.0, 2.0]), "ROC-AUC: found 2 scores, expected 1"),
        (average_precision([false], &[1.0]), "average precision: found no positives, expected at least one"),
        (
            Temperature::fit([0, 1], &logits).map(Temperature::value),
            "temperature: found logits that are always largest for the true class, expected some that are, and some that are not",
        ),
        (
            Temperature::fit([1, 0], &logits).map(Temperature::value),
            "temperature: found logits that are no larger for the true classes than for others, expected some that are, and \
             some that are not",
        ),
        (
            Calibration::new([true], &[1.5], 3).map(|c| c.expected_error()),
            "calibration: found 1.5, expected a probability, from 0 to 1",
        ),
        (
            Calibration::new([true], &[0.5], 0).map(|c| c.expected_error()),
            "`bins`: found 0, expected at least 1",
        ),
        (
            Calibration::new([true; 0], &[0.5; 0], 3).map(|c| c.expected_error()),
            "calibration: found 0 probabilities of 0 samples, expected one for each, and at least one",
        ),
    ] {
        assert_eq!(result.unwrap_err().to_string(), fault);
    }
}
