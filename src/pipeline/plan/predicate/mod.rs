//! Predicates in CEL: parsed by the crate `cel`, typed against the schema, and compiled to a small evaluator over slots that
//! allocates nothing. What the evaluator does not know is run by the crate's interpreter, which is slower.

mod compile;
mod eval;
mod input;
mod interpret;
mod types;

use super::fields::{Fields, Unusable};

use compile::Run;

pub use input::{Fail, Input};

/// A predicate, ready to be asked of records.
pub struct Predicate {
    /// As the pipeline file has it.
    pub text: String,
    run: Run,
}

impl Predicate {
    /// Compiles a predicate against the fields that there are. `slot` gives the slot of a path of the input.
    ///
    /// # Errors
    /// What is wrong with it, and the cure.
    pub fn compile(text: &str, fields: &Fields, slot: &mut dyn FnMut(&[String]) -> usize) -> Result<Self, Unusable> {
        let run = compile::compile(text, fields, slot)?;
        Ok(Self { text: text.into(), run })
    }

    /// The same, always run by the interpreter: the oracle of the evaluator's tests.
    ///
    /// # Errors
    /// As [`Predicate::compile`].
    #[doc(hidden)]
    pub fn interpreted(
        text: &str,
        fields: &Fields,
        slot: &mut dyn FnMut(&[String]) -> usize,
    ) -> Result<Self, Unusable> {
        let run = compile::interpreted(text, fields, slot)?;
        Ok(Self { text: text.into(), run })
    }

    /// Whether the evaluator runs it, not the interpreter.
    pub fn is_compiled(&self) -> bool {
        matches!(self.run, Run::Compiled(_))
    }

    /// Whether it is true of a record. Errors: it has no answer.
    #[inline]
    pub fn holds(&self, input: &Input<'_>) -> Result<bool, Fail> {
        match &self.run {
            Run::Compiled(node) => node.holds(input),
            Run::Interpreted(program) => program.holds(input),
        }
    }
}
