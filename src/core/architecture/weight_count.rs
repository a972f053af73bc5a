//! The number of weights in a Hugging Face directory, from the headers of its safetensors files.

use fs_err::File;
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::Path;

/// The largest header that the format allows.
const LARGEST_HEADER: u64 = 100_000_000;

/// Returns the number of weights in `model.safetensors` of `dir`, or in the files that its index names. It reads only
/// their headers.
///
/// # Errors
/// A missing or malformed file.
pub fn weight_count(dir: &Path) -> io::Result<u64> {
    let single = dir.join("model.safetensors");
    if single.exists() {
        return of_file(&single);
    }
    let index: Value = serde_json::from_slice(&fs_err::read(dir.join("model.safetensors.index.json"))?)?;
    let map = index["weight_map"].as_object().ok_or_else(|| malformed("the index has no `weight_map`"))?;
    let files: BTreeSet<&str> = map.values().filter_map(Value::as_str).collect();
    files.into_iter().map(|file| of_file(&dir.join(file))).sum()
}

/// Returns the number of weights in a file. It begins with the length of its header in 8 bytes. The header is JSON with
/// the shape of each tensor.
fn of_file(path: &Path) -> io::Result<u64> {
    let mut file = File::open(path)?;
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    if length > LARGEST_HEADER {
        return Err(malformed("the header is too long"));
    }
    let header: Map<String, Value> = serde_json::from_reader(file.take(length))?;
    let tensors = header.iter().filter(|(name, _)| *name != "__metadata__");
    tensors.map(|(_, tensor)| of_tensor(tensor).ok_or_else(|| malformed("a tensor has no valid shape"))).sum()
}

fn of_tensor(tensor: &Value) -> Option<u64> {
    let sizes = tensor["shape"].as_array()?;
    sizes.iter().try_fold(1_u64, |count, size| count.checked_mul(size.as_u64()?))
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Writes a file with this header and no tensors behind it.
    fn write(path: &Path, header: &Value) {
        let header = header.to_string();
        let length = (header.len() as u64).to_le_bytes();
        fs_err::write(path, [&length[..], header.as_bytes()].concat()).expect("the directory is writable");
    }

    #[test]
    fn weights_are_counted_from_headers() {
        let dir = tempfile::tempdir().expect("a directory");
        let tensor = |shape: Value| json!({ "dtype": "F32", "shape": shape, "data_offsets": [0, 0] });
        let at = |name: &str| dir.path().join(name);
        assert!(weight_count(dir.path()).is_err());

        write(&at("1.safetensors"), &json!({ "a": tensor(json!([3, 4])), "__metadata__": { "format": "pt" } }));
        write(&at("2.safetensors"), &json!({ "b": tensor(json!([5])), "scale": tensor(json!([])) }));
        let map = json!({ "a": "1.safetensors", "b": "2.safetensors", "scale": "2.safetensors" });
        let index = json!({ "metadata": {}, "weight_map": map }).to_string();
        fs_err::write(at("model.safetensors.index.json"), index).expect("the directory is writable");
        assert_eq!(weight_count(dir.path()).expect("both are there"), 3 * 4 + 5 + 1);

        write(&at("model.safetensors"), &json!({ "a": tensor(json!([7, 1, 2])) }));
        assert_eq!(weight_count(dir.path()).expect("it has precedence"), 14);
        write(&at("model.safetensors"), &json!({ "a": tensor(json!([u64::MAX, 2])) }));
        assert!(weight_count(dir.path()).is_err());
    }
}
