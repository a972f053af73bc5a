//! AdamW and Muon compared with `PyTorch`, schedules with transformers, and clipping with its definition.

use crate::golden::{json, largest_difference, tensors};
use orchestrate_core::recipe::spec::{self, AdjustLr, OptimizerSpec, Schedule};
use orchestrate_engine::optim::{AdamW, Muon, Optimizer, clip_grad_norm, lr_multiplier};
use tch::{Kind, Tensor};

/// Sets the gradient of `parameter` to `grad`.
fn set_grad(parameter: &Tensor, grad: &Tensor) {
    (parameter * grad).sum(Kind::Float).backward();
}

#[test]
fn adamw_follows_pytorchs_trajectory() {
    let golden = tensors("optim.safetensors");
    let (params, grads) = (&golden["adamw.params"], &golden["adamw.grads"]);
    let parameter = params.get(0).copy().set_requires_grad(true);
    let mut optimizer = AdamW::new(vec![("w".to_owned(), parameter.shallow_clone())], (0.9, 0.95), 1e-8, 0.1);
    for step in 0..10 {
        set_grad(&parameter, &grads.get(step));
        optimizer.step(1e-2);
        let difference = largest_difference(&parameter, &params.get(step + 1));
        assert!(difference < 1e-6, "after step {step}: {difference}");
    }
}

#[test]
fn adamw_continues_exactly_from_a_saved_state() {
    let golden = tensors("optim.safetensors");
    let grads = &golden["adamw.grads"];
    let fresh = || golden["adamw.params"].get(0).copy().set_requires_grad(true);
    let optimizer = |w: &Tensor| AdamW::new(vec![("w".to_owned(), w.shallow_clone())], (0.9, 0.95), 1e-8, 0.1);

    let whole = fresh();
    let mut without_pause = optimizer(&whole);
    let first = fresh();
    let mut before = optimizer(&first);
    for step in 0..4 {
        set_grad(&whole, &grads.get(step));
        without_pause.step(1e-2);
        set_grad(&first, &grads.get(step));
        before.step(1e-2);
    }
    let second = first.detach().copy().set_requires_grad(true);
    let mut after = optimizer(&second);
    after.load_state(&before.state().into_iter().map(|(name, t)| (name, t.copy())).collect()).unwrap();
    for step in 4..10 {
        set_grad(&whole, &grads.get(step));
        without_pause.step(1e-2);
        set_grad(&second, &grads.get(step));
        after.step(1e-2);
    }
    assert_eq!(whole, second);
}

#[test]
fn a_bfloat16_parameter_trains_through_its_32_bit_master() {
    let parameter = Tensor::ones([4, 4], (Kind::BFloat16, tch::Device::Cpu)).set_requires_grad(true);
    let mut optimizer = AdamW::new(vec![("w".to_owned(), parameter.shallow_clone())], (0.9, 0.999), 1e-8, 0.0);
    for _ in 0..100 {
        // each update is far smaller than the resolution of bfloat16 at 1
        set_grad(&parameter, &Tensor::ones([4, 4], (Kind::BFloat16, tch::Device::Cpu)));
        optimizer.step(1e-4);
    }
    let value = parameter.double_value(&[0, 0]);
    assert!((value - 0.99).abs() < 0.005, "the small updates were lost: {value}");
}

#[test]
fn muon_follows_pytorchs_trajectory() {
    let golden = tensors("optim.safetensors");
    let (params, grads) = (&golden["muon.params"], &golden["muon.grads"]);
    let parameter = params.get(0).copy().set_requires_grad(true);
    let parameters = vec![("w".to_owned(), parameter.shallow_clone())];
    let mut optimizer = Muon::new(parameters, 0.95, 0.1, AdjustLr::MatchRmsAdamw);
    for step in 0..10 {
        set_grad(&parameter, &grads.get(step));
        optimizer.step(2e-2);
        let difference = largest_difference(&parameter, &params.get(step + 1));
        assert!(difference < 1e-3, "after step {step}: {difference}");
    }
}

/// Trains a matrix, an embedding and a vector with Muon and AdamW. The run is saved and restored at `pause`.
fn train_with_muon(pause: Option<i64>) -> Vec<Tensor> {
    let spec = OptimizerSpec {
        optimizer: spec::Optimizer::Muon {
            momentum: 0.95,
            adjust_lr: AdjustLr::Original,
            betas: (0.9, 0.95),
            eps: 1e-8,
        },
        lr: 1e-2,
        weight_decay: 0.1,
        schedule: Schedule::Constant,
        warmup_steps: 0,
        max_grad_norm: 1.0,
    };
    let named = |values: &[Tensor]| -> Vec<(String, Tensor)> {
        let names = ["model.layers.0.mlp.up_proj.weight", "model.embed_tokens.weight", "model.norm.weight"];
        names.iter().zip(values).map(|(name, value)| ((*name).to_owned(), value.shallow_clone())).collect()
    };
    let golden = tensors("optim.safetensors");
    let grads = &golden["muon.grads"];
    let start = golden["muon.params"].get(0);
    let leaf = |value: &Tensor| value.copy().set_requires_grad(true);
    let mut values = vec![leaf(&start.transpose(0, 1).contiguous()), leaf(&start), leaf(&start.get(0))];
    let mut optimizer = Optimizer::new(named(&values), &spec);
    for step in 0..10 {
        if pause == Some(step) {
            let saved = optimizer.state().into_iter().map(|(name, t)| (name, t.copy())).collect();
            values = values.iter().map(|value| leaf(&value.detach())).collect();
            optimizer = Optimizer::new(named(&values), &spec);
            optimizer.load_state(&saved).unwrap();
        }
        let grad = grads.get(step);
        set_grad(&values[0], &grad.transpose(0, 1));
        set_grad(&values[1], &grad);
        set_grad(&values[2], &grad.get(0));
        optimizer.step(spec.lr);
    }
    values
}

#[test]
fn muon_leaves_embeddings_and_vectors_to_adamw_and_continues_exactly() {
    let whole = train_with_muon(None);
    for (one, other) in whole.iter().zip(train_with_muon(Some(4))) {
        assert_eq!(*one, other);
    }
    let golden = tensors("optim.safetensors");
    let embedding = golden["muon.params"].get(0).set_requires_grad(true);
    let mut adamw =
        AdamW::new(vec![("model.embed_tokens.weight".to_owned(), embedding.shallow_clone())], (0.9, 0.95), 1e-8, 0.1);
    for step in 0..10 {
        set_grad(&embedding, &golden["muon.grads"].get(step));
        adamw.step(1e-2);
    }
    assert_eq!(whole[1], embedding);
    // under Muon's original rule a tall matrix moves by about lr * sqrt(M / N) in the spectral norm
    assert!(largest_difference(&whole[0], &whole[1].transpose(0, 1)) > 1e-3);
}

#[test]
fn weight_decay_leaves_vectors_alone() {
    let vector = Tensor::ones([3], (Kind::Float, tch::Device::Cpu)).set_requires_grad(true);
    let mut optimizer = AdamW::new(vec![("b".to_owned(), vector.shallow_clone())], (0.9, 0.999), 1e-8, 0.5);
    set_grad(&vector, &Tensor::zeros([3], (Kind::Float, tch::Device::Cpu)));
    optimizer.step(0.1);
    assert_eq!(Vec::<f32>::try_from(&vector.detach()).unwrap(), [1.0, 1.0, 1.0]);
}

#[test]
fn schedules_equal_transformers() {
    let golden = json("schedules.json");
    let (warmup, total) =
        (golden["num_warmup_steps"].as_u64().unwrap(), golden["num_training_steps"].as_u64().unwrap());
    let wsd = Schedule::Wsd { decay_steps: golden["num_decay_steps"].as_u64().unwrap() };
    for (name, schedule) in [
        ("linear", Schedule::Linear),
        ("cosine", Schedule::Cosine),
        ("constant_with_warmup", Schedule::Constant),
        ("warmup_stable_decay", wsd),
    ] {
        for (step, value) in (0..).zip(golden["curves"][name].as_array().unwrap()) {
            let ours = lr_multiplier(schedule, step, warmup, total);
            assert!((ours - value.as_f64().unwrap()).abs() < 1e-12, "{name} at step {step}: {ours} != {value}");
        }
    }
}

#[test]
fn clipping_returns_the_norm_and_scales_to_the_limit() {
    let a = Tensor::from_slice(&[0f32, 0.0]).set_requires_grad(true);
    let b = Tensor::from_slice(&[0f32]).set_requires_grad(true);
    set_grad(&a, &Tensor::from_slice(&[2f32, 3.0]));
    set_grad(&b, &Tensor::from_slice(&[6f32]));
    let norm = clip_grad_norm([&a, &b].into_iter(), 1.0);
    assert!((norm - 7.0).abs() < 1e-6);
    assert!((b.grad().double_value(&[0]) - 6.0 / 7.0).abs() < 1e-5);
    let again = clip_grad_norm([&a, &b].into_iter(), 1.0);
    assert!((again - 1.0).abs() < 1e-5);
}
