//! How equal are shares, as one number?

/// Jain's index, (Σx)² / (n · Σx²): one where all are equal, 1/n where one has everything, and one
/// where there is nothing to share. For tenants with weights, hand in what each got by its weight.
pub fn jain(shares: &[f64]) -> f64 {
    let sum = shares.iter().sum::<f64>();
    let squares = shares.iter().map(|share| share * share).sum::<f64>();
    if squares > 0.0 { sum * sum / (shares.len() as f64 * squares) } else { 1.0 }
}
