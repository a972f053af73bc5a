//! Helpers of the tests: the values of `tests/golden/gen_stats.py`.

use serde_json::Value;

/// Reads a file under `tests/golden/`.
pub(super) fn golden(file: &str) -> Value {
    let path = format!("{}/../../tests/golden/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&fs_err::read_to_string(path).expect("the golden file is in the repository"))
        .expect("the golden file is JSON")
}

/// Converts a JSON value to a list of numbers.
pub(super) fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).expect("a list of numbers")
}

/// Asserts that `value` is within `tolerance` of `expected`.
#[track_caller]
pub(super) fn assert_near(value: f64, expected: f64, tolerance: f64) {
    assert!((value - expected).abs() <= tolerance, "{value} is not {expected} to within {tolerance}");
}
