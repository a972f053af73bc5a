//! Tensors in safetensors files. Equal tensors are written as equal bytes.

use crate::error::{StageError, StageResult};
use memmap2::Mmap;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// The weights of a Hugging Face directory: one file, or several with an index.
#[derive(Debug)]
pub struct Weights {
    files: Vec<(PathBuf, Mmap)>,
    /// Index of the file that holds each tensor.
    location: BTreeMap<String, usize>,
}

impl Weights {
    /// Opens `model.safetensors`, or the files that `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// Returns an error if there is no such file, if there are only pickled weights, or if a file is malformed.
    pub fn open(dir: &Path) -> StageResult<Self> {
        let paths = if dir.join(SINGLE).exists() {
            vec![dir.join(SINGLE)]
        } else if dir.join(INDEX).exists() {
            shards(dir)?
        } else {
            return Err(missing(dir));
        };
        let mut weights = Self { files: Vec::new(), location: BTreeMap::new() };
        for path in paths {
            let map = map(&path)?;
            for name in parse(&path, &map)?.names() {
                weights.location.insert(name.to_owned(), weights.files.len());
            }
            weights.files.push((path, map));
        }
        Ok(weights)
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.location.keys().map(String::as_str)
    }

    /// Returns the number format of the tensor `name`, or `None` if the tensor does not exist or its format is not
    /// supported.
    pub fn kind(&self, name: &str) -> Option<Kind> {
        let (path, map) = &self.files[*self.location.get(name)?];
        kind(parse(path, map).ok()?.tensor(name).ok()?.dtype())
    }

    /// Reads the tensor `name`, which must have this `shape`, and converts it to `kind` on `device`.
    ///
    /// # Errors
    /// Returns an error for a missing tensor or another shape.
    pub fn get_shaped(&self, name: &str, shape: &[i64], kind: Kind, device: Device) -> StageResult<Tensor> {
        let Some(&index) = self.location.get(name) else {
            let files: Vec<String> = self.files.iter().map(|(path, _)| format!("`{}`", path.display())).collect();
            return Err(StageError::input(format!("the tensor `{name}` is missing from {}", files.join(", ")))
                .hinted("check that `config.json` belongs to these weights"));
        };
        let (path, map) = &self.files[index];
        let file = parse(path, map)?;
        let view = file.tensor(name).map_err(|e| malformed(path, &e))?;
        let tensor = tensor(path, name, &view)?;
        if tensor.size() != shape {
            let found = tensor.size();
            return Err(StageError::input(format!(
                "`{name}` in `{}` has shape {found:?}, `config.json` asks for {shape:?}",
                path.display()
            )));
        }
        Ok(tensor.to_device(device).to_kind(kind))
    }
}

/// Reads every tensor of a safetensors file onto the CPU.
pub fn load_tensors(path: &Path) -> StageResult<BTreeMap<String, Tensor>> {
    let map = map(path)?;
    let file = parse(path, &map)?;
    file.iter().map(|(name, view)| Ok((name.to_owned(), tensor(path, name, &view)?))).collect()
}

/// Writes `tensors` to `path`. Equal tensors give equal bytes.
pub fn save_tensors(path: &Path, tensors: &[(String, Tensor)], metadata: &[(&str, &str)]) -> StageResult<()> {
    let contents: Vec<(&str, Dtype, Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, tensor)| {
            let tensor = tensor.detach().to_device(Device::Cpu).contiguous();
            let dtype = dtype(tensor.kind()).ok_or_else(|| {
                StageError::input(format!("`{name}` has the number format {:?}, which is not saved", tensor.kind()))
            })?;
            let bytes_per_number = tensor.kind().elt_size_in_bytes();
            let mut bytes = vec![0; tensor.numel() * bytes_per_number];
            tensor.copy_data_u8(&mut bytes, tensor.numel());
            let shape = tensor.size().iter().map(|&n| usize::try_from(n).expect("sizes are positive")).collect();
            Ok((name.as_str(), dtype, shape, bytes))
        })
        .collect::<StageResult<_>>()?;
    let views = contents.iter().map(|(name, dtype, shape, bytes)| {
        (*name, TensorView::new(*dtype, shape.clone(), bytes).expect("the bytes are those of the shape"))
    });
    let metadata = (!metadata.is_empty())
        .then(|| metadata.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect::<HashMap<_, _>>());
    let bytes = safetensors::serialize(views, metadata)
        .map_err(|e| StageError::input(format!("`{}` cannot be written: {e}", path.display())))?;
    Ok(fs_err::write(path, bytes)?)
}

/// Writes weights into the directory `dir` as Hugging Face does: one file, or several with an index if they exceed
/// `shard_bytes`. Each tensor is converted to `kind` only when it is written.
pub fn save_sharded(dir: &Path, tensors: &[(String, Tensor)], kind: Kind, shard_bytes: usize) -> StageResult<()> {
    let bytes = |tensor: &Tensor| tensor.numel() * kind.elt_size_in_bytes();
    let mut shards: Vec<Vec<(String, Tensor)>> = vec![Vec::new()];
    let mut filled = 0;
    for (name, tensor) in tensors {
        if filled > 0 && filled + bytes(tensor) > shard_bytes {
            shards.push(Vec::new());
            filled = 0;
        }
        filled += bytes(tensor);
        shards.last_mut().expect("there is a shard").push((name.clone(), tensor.shallow_clone()));
    }
    let count = shards.len();
    let mut weight_map = BTreeMap::new();
    for (number, shard) in (1..).zip(shards) {
        let file = if count == 1 { SINGLE.to_owned() } else { format!("model-{number:05}-of-{count:05}.safetensors") };
        let converted: Vec<(String, Tensor)> =
            shard.into_iter().map(|(name, tensor)| (name, tensor.detach().to_kind(kind))).collect();
        save_tensors(&dir.join(&file), &converted, &[("format", "pt")])?;
        weight_map.extend(converted.into_iter().map(|(name, _)| (name, file.clone())));
    }
    if count > 1 {
        let total: usize = tensors.iter().map(|(_, tensor)| bytes(tensor)).sum();
        let index = serde_json::json!({"metadata": {"total_size": total}, "weight_map": weight_map});
        fs_err::write(dir.join(INDEX), serde_json::to_string_pretty(&index).expect("an index serializes") + "\n")?;
    }
    Ok(())
}

/// Returns the files that an index names, without duplicates and sorted.
fn shards(dir: &Path) -> StageResult<Vec<PathBuf>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let path = dir.join(INDEX);
    let text = fs_err::read_to_string(&path).map_err(|e| StageError::io(&path, &e))?;
    let index: Index = serde_json::from_str(&text).map_err(|e| malformed(&path, &e))?;
    let names: std::collections::BTreeSet<String> = index.weight_map.into_values().collect();
    if let Some(name) = names.iter().find(|name| Path::new(name).components().count() != 1) {
        return Err(StageError::input(format!("`{}` names `{name}`, which is not a file beside it", path.display())));
    }
    Ok(names.into_iter().map(|name| dir.join(name)).collect())
}

fn missing(dir: &Path) -> StageError {
    let looked = format!("`{}` has neither `{SINGLE}` nor `{INDEX}`", dir.display());
    let pickle =
        ["pytorch_model.bin", "model.bin", "pytorch_model.bin.index.json"].iter().any(|n| dir.join(n).exists());
    StageError::input(looked).hinted(if pickle {
        "it has pickled weights, which can run code and are never read; convert them with safetensors' `save_file`"
    } else {
        "expected the directory of a model"
    })
}

fn map(path: &Path) -> StageResult<Mmap> {
    let file = fs_err::File::open(path).map_err(|e| StageError::io(path, &e))?;
    // SAFETY: the map is read-only. Users must not truncate a model's file while it is loaded.
    #[expect(unsafe_code, reason = "memory-mapped files have no safe form")]
    let map = unsafe { Mmap::map(file.file()) };
    map.map_err(|e| StageError::io(path, &e))
}

fn parse<'a>(path: &Path, bytes: &'a [u8]) -> StageResult<SafeTensors<'a>> {
    SafeTensors::deserialize(bytes).map_err(|e| malformed(path, &e))
}

fn malformed(path: &Path, error: &dyn std::error::Error) -> StageError {
    StageError::input(format!("`{}` is malformed: {error}", path.display()))
        .hinted("check that the download is complete: size and hash should match the hub's")
}

fn tensor(path: &Path, name: &str, view: &TensorView<'_>) -> StageResult<Tensor> {
    let kind = kind(view.dtype()).ok_or_else(|| {
        let dtype = view.dtype();
        StageError::input(format!(
            "`{name}` in `{}` has the number format {dtype:?}, which is not read",
            path.display()
        ))
    })?;
    let shape: Vec<i64> = view.shape().iter().map(|&n| i64::try_from(n).expect("sizes fit i64")).collect();
    Ok(Tensor::from_data_size(view.data(), &shape, kind))
}

fn kind(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F32 => Some(Kind::Float),
        Dtype::F16 => Some(Kind::Half),
        Dtype::BF16 => Some(Kind::BFloat16),
        Dtype::I64 => Some(Kind::Int64),
        _ => None,
    }
}

fn dtype(kind: Kind) -> Option<Dtype> {
    match kind {
        Kind::Float => Some(Dtype::F32),
        Kind::Half => Some(Dtype::F16),
        Kind::BFloat16 => Some(Dtype::BF16),
        Kind::Int64 => Some(Dtype::I64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_over_the_limit_are_written_in_shards_that_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let tensors: Vec<(String, Tensor)> =
            (0..3i64).map(|i| (format!("w{i}"), Tensor::full([4, 2], i, (Kind::Float, Device::Cpu)))).collect();
        save_sharded(dir.path(), &tensors, Kind::BFloat16, 40).unwrap(); // 16 bytes each, so two fit into a shard
        let names: std::collections::BTreeSet<String> = fs_err::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let expected = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", INDEX];
        assert_eq!(names, expected.map(str::to_owned).into());
        let weights = Weights::open(dir.path()).unwrap();
        assert_eq!(weights.kind("w0"), Some(Kind::BFloat16));
        for (name, tensor) in &tensors {
            let read = weights.get_shaped(name, &[4, 2], Kind::Float, Device::Cpu).unwrap();
            assert_eq!(read, *tensor, "{name}");
        }
    }
}
