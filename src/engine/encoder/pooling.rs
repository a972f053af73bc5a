//! Pooling of the token vectors of a text into one vector.

use crate::error::{StageError, StageResult};
use serde_json::Value;
use std::path::Path;
use tch::{Kind, Tensor};

/// The method by which token vectors are pooled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pooling {
    Mean,
    FirstToken,
    LastToken,
}

/// sentence-transformers' older switches, each with its mode.
const SWITCHES: [(&str, &str); 6] = [
    ("pooling_mode_cls_token", "cls"),
    ("pooling_mode_max_tokens", "max"),
    ("pooling_mode_mean_tokens", "mean"),
    ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"),
    ("pooling_mode_weightedmean_tokens", "weightedmean"),
    ("pooling_mode_lasttoken", "lasttoken"),
];

impl Pooling {
    /// Reads the `config.json` of a Pooling module at `path`. Newer files have `pooling_mode`, older ones have
    /// switches. The default is the mean, as in sentence-transformers.
    ///
    /// # Errors
    /// Returns an error for several modes at once, and for an unsupported mode, by name.
    pub(super) fn read(path: &Path, json: &Value) -> StageResult<Self> {
        let modes: Vec<&str> = match &json["pooling_mode"] {
            Value::Null => SWITCHES.iter().filter(|(name, _)| json[*name] == true).map(|(_, mode)| *mode).collect(),
            Value::Array(modes) => modes.iter().map(|mode| mode.as_str().unwrap_or("?")).collect(),
            mode => vec![mode.as_str().unwrap_or("?")],
        };
        match modes[..] {
            // both modes differ by a factor, which has no effect on a unit vector
            [] | ["mean" | "mean_sqrt_len_tokens"] => Ok(Self::Mean),
            ["cls"] => Ok(Self::FirstToken),
            ["lasttoken"] => Ok(Self::LastToken),
            _ => {
                Err(StageError::input(format!("`{}`: pooling `{}` is not supported", path.display(), modes.join("+")))
                    .hinted("supported is one of mean, mean_sqrt_len_tokens, cls, lasttoken"))
            }
        }
    }

    /// Returns a vector of length 1 for each row, in 32 bits. Padding must be on the right.
    /// // (B, T, C), (B, T) -> (B, C)
    pub(super) fn unit_vectors(self, hidden: &Tensor, attention_mask: &Tensor) -> Tensor {
        let hidden = hidden.to_kind(Kind::Float);
        let pooled = match self {
            // a sum has the direction of the mean; hidden states of padding may be NaN
            Self::Mean => hidden.masked_fill(&attention_mask.eq(0).unsqueeze(-1), 0.0).sum_dim_intlist(1, false, None),
            Self::FirstToken => hidden.select(1, 0),
            Self::LastToken => {
                let last = attention_mask.sum_dim_intlist(1, false, Kind::Int64) - 1; // (B,)
                let (b, _, c) = hidden.size3().expect("hidden is (B, T, C)");
                hidden.gather(1, &last.view([b, 1, 1]).expand([b, 1, c], false), false).squeeze_dim(1)
            }
        };
        let norm = pooled.square().sum_dim_intlist(-1, true, Kind::Float).sqrt().clamp_min(1e-12);
        pooled / norm
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(json: &Value) -> StageResult<Pooling> {
        Pooling::read(Path::new("1_Pooling/config.json"), json)
    }

    #[test]
    fn both_layouts_name_the_mode() {
        let older = json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false});
        assert_eq!(read(&older).unwrap(), Pooling::FirstToken);
        assert_eq!(read(&json!({"pooling_mode_lasttoken": true})).unwrap(), Pooling::LastToken);
        assert_eq!(read(&json!({"pooling_mode": "lasttoken"})).unwrap(), Pooling::LastToken);
        assert_eq!(read(&json!({"pooling_mode": ["cls"]})).unwrap(), Pooling::FirstToken);
        assert_eq!(read(&json!({"pooling_mode": "mean", "pooling_mode_cls_token": true})).unwrap(), Pooling::Mean);
        assert_eq!(read(&json!({"pooling_mode_mean_sqrt_len_tokens": true})).unwrap(), Pooling::Mean);
        assert_eq!(read(&json!({"word_embedding_dimension": 64})).unwrap(), Pooling::Mean);
    }

    #[test]
    fn other_modes_and_several_at_once_are_refused_by_name() {
        assert!(read(&json!({"pooling_mode": "weightedmean"})).unwrap_err().message.contains("`weightedmean`"));
        let two = json!({"pooling_mode_cls_token": true, "pooling_mode_max_tokens": true});
        assert!(read(&two).unwrap_err().message.contains("`cls+max`"));
    }

    #[test]
    fn padding_takes_no_part_even_if_it_is_no_number() {
        let hidden = Tensor::from_slice(&[3.0_f32, 0.0, 0.0, 4.0, f32::NAN, 9.0]).view([1, 3, 2]);
        let mask = Tensor::from_slice(&[1_i64, 1, 0]).view([1, 3]);
        let vector = |pooling: Pooling| Vec::<f32>::try_from(pooling.unit_vectors(&hidden, &mask).view([-1])).unwrap();
        assert_eq!(vector(Pooling::Mean), [0.6, 0.8]);
        assert_eq!(vector(Pooling::FirstToken), [1.0, 0.0]);
        assert_eq!(vector(Pooling::LastToken), [0.0, 1.0]);
    }
}
