//! f64 and f32 evaluator of every operator: the oracle of exactness and the evaluator of constant folding.
