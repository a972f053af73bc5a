//! A trained tensor with a 32-bit master copy if its own format is shorter.

use crate::error::{StageError, StageResult};
use std::collections::BTreeMap;
use tch::{Kind, Tensor};

#[derive(Debug)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) value: Tensor,
    /// 32-bit copy of a `value` in another format. One update may be too small for 16 bits to represent.
    pub(super) master: Option<Tensor>,
}

impl Parameter {
    pub(super) fn new(name: String, value: Tensor) -> Self {
        let master = (value.kind() != Kind::Float).then(|| value.detach().to_kind(Kind::Float));
        Self { name, value, master }
    }

    /// Returns a 32-bit tensor of zeros with the parameter's shape.
    pub(super) fn zeros(&self) -> Tensor {
        Tensor::zeros(self.value.size(), (Kind::Float, self.value.device()))
    }

    /// Returns the gradient in 32 bits, if backpropagation reached the parameter.
    pub(super) fn grad(&self) -> Option<Tensor> {
        let grad = self.value.grad();
        grad.defined().then(|| grad.to_kind(Kind::Float))
    }

    /// The tensor that an update changes: the master copy if there is one, else the value.
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

    /// Returns the tensors to save beside the value: the optimizer's own `parts` and the master copy.
    pub(super) fn state<'a>(&'a self, parts: &[(&str, &'a Tensor)]) -> Vec<(String, Tensor)> {
        let master = self.master.as_ref().map(|master| ("master", master));
        let parts = parts.iter().copied().chain(master);
        parts.map(|(part, tensor)| (format!("{}.{part}", self.name), tensor.shallow_clone())).collect()
    }

    /// Restores the tensors that [`Parameter::state`] returned for the same parts.
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

/// Returns the part `name` of a saved optimizer state.
pub(super) fn find<'a>(saved: &'a BTreeMap<String, Tensor>, name: &str) -> StageResult<&'a Tensor> {
    saved.get(name).ok_or_else(|| StageError::input(format!("the optimizer state lacks `{name}`")))
}
