//! Long histories of everything at once, full of accidents, and what must hold of them all the same.

mod checker;
#[cfg(test)]
mod checker_tests;
mod event;
