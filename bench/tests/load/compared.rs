//! Results beside each other.

use super::{COUNTED, load, says, server};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

fn compare(before: &Path, after: &Path) -> Option<i32> {
    Command::new(env!("CARGO_BIN_EXE_bulkhead-bench")).arg("compare").args([before, after]).output().unwrap().status.code()
}

#[test]
fn a_result_is_compared_with_itself_and_with_a_worse_one() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, result: &Value| {
        let file = folder.path().join(name);
        std::fs::write(&file, result.to_string()).unwrap();
        file
    };
    let result = load(server(|_, tenant| says(tenant)).address, &COUNTED).result;
    let before = write("before.json", &result);
    assert_eq!(compare(&before, &before), Some(0));
    for (at, value, code) in
        [("/all/latency/p99", 1e9, 1), ("/all/leaked", 1.0, 1), ("/all/failed", 20.0, 1), ("/all/failed", 1.0, 0), ("/version", 99.0, 70)]
    {
        let mut worse = result.clone();
        *worse.pointer_mut(at).unwrap() = if value < 1e6 { Value::from(value as u64) } else { value.into() };
        assert_eq!(compare(&before, &write("after.json", &worse)), Some(code), "{at}");
    }
}
