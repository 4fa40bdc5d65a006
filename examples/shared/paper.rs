//! The paper's own figures, in percent: Kexin Zhang, "LSTM: An Image Classification Model Based on Fashion-MNIST
//! Dataset". docs/paper.md says where it can be read in several ways.

/// A traditional RNN and an LSTM, before tuning.
pub const RNN: f64 = 74.52;
pub const LSTM: f64 = 80.20;

/// The tuned model, whose confusion matrix is Figure 4.
pub const TUNED: f64 = 87.61;

/// Table 2, the mean of five runs: patterns, accuracy, seconds an epoch.
pub const TABLE_2: [(usize, f64, f64); 5] = [
    (60_000, 87.57, 13.0),
    (48_000, 87.41, 10.1),
    (36_000, 87.14, 8.0),
    (24_000, 86.19, 5.2),
    (12_000, 84.10, 2.7),
];

/// Table 3: threshold, accuracy when pruned, and when retrained.
pub const TABLE_3: [(f64, f64, f64); 6] = [
    (0.03, 86.91, 88.46),
    (0.06, 87.02, 88.24),
    (0.09, 86.71, 88.35),
    (0.12, 84.16, 87.44),
    (0.15, 83.17, 86.57),
    (0.18, 80.85, 84.23),
];

/// The final model, of which Figure 7 is the confusion matrix: accuracy, precision.
pub const FINAL: (f64, f64) = (89.94, 89.74);

/// Four layers: accuracy, precision.
pub const FOUR_LAYERS: (f64, f64) = (91.0, 89.6);

/// Table 4: other models on the same data.
pub const TABLE_4: [(&str, f64); 7] = [
    ("three-layer neural network", 87.23),
    ("SVC with rbf kernel", 89.70),
    ("evolutionary deep learning", 90.60),
    ("CNN with SVM", 90.72),
    ("CNN with softmax", 91.86),
    ("CNN with batch normalisation", 92.22),
    ("CNN with batch normalisation and residual connections", 92.54),
];

/// Figure 4: rows are true classes.
pub const FIGURE_4: [[u64; 10]; 10] = [
    [857, 1, 12, 48, 5, 1, 67, 1, 8, 0],
    [5, 966, 3, 22, 1, 0, 2, 0, 1, 0],
    [18, 2, 854, 22, 38, 1, 60, 0, 5, 0],
    [23, 10, 11, 917, 17, 0, 20, 0, 2, 0],
    [2, 1, 152, 61, 729, 1, 54, 0, 0, 0],
    [0, 1, 0, 0, 0, 959, 0, 25, 1, 14],
    [168, 3, 109, 47, 53, 0, 613, 0, 7, 0],
    [0, 0, 0, 0, 0, 13, 0, 914, 0, 73],
    [3, 0, 3, 8, 2, 4, 5, 4, 971, 0],
    [0, 0, 1, 0, 0, 3, 0, 15, 0, 981],
];

/// Figure 7. Its first entry is printed as 882, with which its row had 1,080 images; 802 makes the row and the accuracy
/// come out.
pub const FIGURE_7: [[u64; 10]; 10] = [
    [802, 0, 20, 32, 3, 2, 135, 1, 5, 0],
    [1, 986, 0, 8, 2, 0, 2, 0, 1, 0],
    [14, 2, 838, 8, 61, 0, 75, 0, 2, 0],
    [9, 12, 9, 899, 31, 0, 35, 0, 5, 0],
    [2, 3, 66, 21, 859, 0, 46, 2, 1, 0],
    [1, 1, 0, 0, 0, 974, 0, 17, 1, 6],
    [108, 1, 51, 21, 71, 0, 741, 1, 6, 0],
    [0, 0, 0, 0, 0, 14, 0, 956, 0, 30],
    [3, 1, 3, 2, 2, 1, 6, 4, 977, 1],
    [0, 0, 0, 0, 0, 7, 0, 30, 1, 962],
];
