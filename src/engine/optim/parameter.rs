//! A trained tensor, and its 32-bit master copy when it is held in fewer bits.

use crate::error::{StageError, StageResult};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

#[derive(Debug)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) value: Tensor,
    /// 32-bit copy of a `value` that is not 32-bit itself: what one update adds may be too small for 16 bits.
    pub(super) master: Option<Tensor>,
}

impl Parameter {
    pub(super) fn new(name: String, value: Tensor) -> Self {
        let master = (value.kind() != Kind::Float).then(|| value.detach().to_kind(Kind::Float));
        Self { name, value, master }
    }

    /// A 32-bit tensor of its shape, all 0.
    pub(super) fn zeros(&self) -> Tensor {
        Tensor::zeros(self.value.size(), (Kind::Float, self.value.device()))
    }

    /// The gradient in 32 bits, if backpropagation reached the parameter.
    pub(super) fn grad(&self) -> Option<Tensor> {
        let grad = self.value.grad();
        grad.defined().then(|| grad.to_kind(Kind::Float))
    }

    /// What an update changes.
    pub(super) fn target(&self) -> Tensor {
        self.master.as_ref().unwrap_or(&self.value).shallow_clone()
    }

    /// Ends an update: rounds the master copy into the value and clears the gradient.
    pub(super) fn finish(&mut self) {
        if let Some(master) = &self.master {
            self.value.copy_(master);
        }
        self.value.zero_grad();
    }

    /// What to save of it beside the value, with the optimizer's own `parts`.
    pub(super) fn state<'a>(&'a self, parts: &[(&str, &'a Tensor)]) -> Vec<(String, Tensor)> {
        let master = self.master.as_ref().map(|master| ("master", master));
        let parts = parts.iter().copied().chain(master);
        parts.map(|(part, tensor)| (format!("{}.{part}", self.name), tensor.shallow_clone())).collect()
    }

    /// Takes up what [`Parameter::state`] gave for the same parts.
    pub(super) fn load_state(
        &mut self,
        saved: &BTreeMap<String, Tensor>,
        parts: &mut [(&str, &mut Tensor)],
    ) -> StageResult<()> {
        let master = self.master.as_mut().map(|master| ("master", master));
        let parts = parts.iter_mut().map(|(part, tensor)| (*part, &mut **tensor)).chain(master);
        for (part, target) in parts {
            let name = format!("{}.{part}", self.name);
            let tensor = find(saved, &name)?;
            if tensor.size() != target.size() {
                let sizes = format!("{:?}, expected {:?}", tensor.size(), target.size());
                return Err(StageError::input(format!("optimizer state `{name}` has shape {sizes}")));
            }
            tch::no_grad(|| target.copy_(tensor));
        }
        Ok(())
    }
}

/// A part of a saved optimizer state, by name.
pub(super) fn find<'a>(saved: &'a BTreeMap<String, Tensor>, name: &str) -> StageResult<&'a Tensor> {
    saved.get(name).ok_or_else(|| StageError::input(format!("the optimizer state lacks `{name}`")))
}
