//! Least squares of a few unknowns that cannot be negative: what fits of speeds are made with.

/// The share of an unknown that has to be its own for it to be told from the others.
const ALIKE: f64 = 1e-6;

/// Normal equations of `N` unknowns.
pub(super) struct Equations<const N: usize> {
    left: [[f64; N]; N],
    right: [f64; N],
}

impl<const N: usize> Equations<N> {
    pub(super) const fn new() -> Self {
        Self { left: [[0.0; N]; N], right: [0.0; N] }
    }

    /// One more measurement: its value is the sum of the unknowns times these terms.
    pub(super) fn add(&mut self, terms: [f64; N], value: f64, weight: f64) {
        let weight = weight * weight;
        for row in 0..N {
            for column in 0..N {
                self.left[row][column] += weight * terms[row] * terms[column];
            }
            self.right[row] += weight * terms[row] * value;
        }
    }

    /// These unknowns, none of them negative; the others, and those that nothing depends on, are as they were.
    /// None where the measurements do not tell the unknowns apart.
    pub(super) fn solve(&self, free: &[usize], now: [f64; N]) -> Option<[f64; N]> {
        let depended = |unknown: &usize| self.left[*unknown][*unknown] > 0.0;
        let mut used: Vec<usize> = free.iter().copied().filter(depended).collect();
        let mut all = now;
        while !used.is_empty() {
            let found = self.solve_for(&used)?;
            // By how much of the measurements each takes away.
            let part = |unknown: &usize| found[*unknown] * self.left[*unknown][*unknown].sqrt();
            let least = used.iter().copied().min_by(|one, other| part(one).total_cmp(&part(other)));
            let Some(worst) = least.filter(|unknown| found[*unknown] < 0.0) else {
                used.iter().for_each(|unknown| all[*unknown] = found[*unknown]);
                return Some(all);
            };
            all[worst] = 0.0;
            used.retain(|unknown| *unknown != worst);
        }
        None
    }

    /// Gauss's elimination over some of the unknowns.
    fn solve_for(&self, used: &[usize]) -> Option<[f64; N]> {
        let mut rows: Vec<Vec<f64>> = used
            .iter()
            .map(|row| {
                let left = used.iter().map(|column| self.left[*row][*column]);
                left.chain([self.right[*row]]).collect()
            })
            .collect();
        let size = used.len();
        for pivot in 0..size {
            let scale = self.left[used[pivot]][used[pivot]];
            if rows[pivot][pivot] <= scale * ALIKE {
                return None;
            }
            let head = rows[pivot].clone();
            for (at, row) in rows.iter_mut().enumerate() {
                if at != pivot {
                    let factor = row[pivot] / head[pivot];
                    row.iter_mut().zip(&head).for_each(|(value, part)| *value -= factor * part);
                }
            }
        }
        let mut found = [0.0; N];
        for (at, unknown) in used.iter().enumerate() {
            found[*unknown] = rows[at][size] / rows[at][at];
        }
        Some(found)
    }
}
