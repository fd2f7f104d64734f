//! What can be wrong with a policy, each with its place and a remedy.

/// One problem of a policy: where, why, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {cause}: {}", cause.remedy())]
pub struct PolicyProblem {
    /// The place in the policy, such as `data.size_bytes[0]` or `$or[1].stage`; `the policy` for
    /// the whole.
    pub path: String,
    /// What is wrong there.
    pub cause: PolicyCause,
}

/// What is wrong with a policy. The first part is what
/// [`FilterPolicy::parse`](super::FilterPolicy::parse) finds, the second what
/// [`FilterPolicy::check_limits`](super::FilterPolicy::check_limits) finds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyCause {
    /// The policy itself is not an object.
    #[error("a filter policy is a JSON object, and this is {found}")]
    NotAnObject {
        /// The kind of value found.
        found: &'static str,
    },
    /// An object without keys below the top.
    #[error("an empty object says nothing")]
    EmptyObject,
    /// A key with an empty list.
    #[error("an empty list of conditions can never hold")]
    EmptyList,
    /// A key whose value is neither a list nor an object.
    #[error("a key holds a list of conditions, and this is {found}")]
    NotAList {
        /// The kind of value found.
        found: &'static str,
    },
    /// An object below a key, where there are only flat attributes.
    #[error("message attributes are flat, and this key holds an object")]
    NestedInAttributes,
    /// A list in the list of conditions, or in the operand of `anything-but`.
    #[error("a value to compare with is a string, number, boolean or null, and this is {found}")]
    NotAScalar {
        /// The kind of value found.
        found: &'static str,
    },
    /// A condition object that has not exactly one operator.
    #[error("a condition has exactly one operator, and this has {count}")]
    OperatorCount {
        /// How many keys it has.
        count: usize,
    },
    /// An operator that SNS does not have.
    #[error("`{operator}` is not an operator{}", if *.after_anything_but { " that `anything-but` takes" } else { "" })]
    UnknownOperator {
        /// The operator as written.
        operator: String,
        /// Whether it stands inside an `anything-but`.
        after_anything_but: bool,
    },
    /// A string operator whose operand is none.
    #[error("`{operator}` takes a string, and this is {found}")]
    OperandNotText {
        /// The operator.
        operator: &'static str,
        /// The kind of value found.
        found: &'static str,
    },
    /// `exists` with anything but a boolean.
    #[error("`exists` takes true or false, and this is {found}")]
    ExistsNotBool {
        /// The kind of value found.
        found: &'static str,
    },
    /// `numeric` that is not in one of its forms.
    #[error("`numeric` takes one comparison or a range, and this is {found}")]
    NumericForm {
        /// The operand as written.
        found: String,
    },
    /// A numeric range that is empty or a single point.
    #[error("the bottom of a range must be less than its top, and this is {found}")]
    NumericRangeEmpty {
        /// The operand as written.
        found: String,
    },
    /// `anything-but` with an operand that it does not take.
    #[error("`anything-but` takes strings or numbers, not both, and this is {found}")]
    AnythingButForm {
        /// The operand as written.
        found: String,
    },
    /// `anything-but` of an empty prefix or suffix: no string could pass.
    #[error("`anything-but` of an empty `{operator}` lets no string through")]
    AnythingButOfAll {
        /// `prefix` or `suffix`.
        operator: &'static str,
    },
    /// Two stars in a row.
    #[error("`{pattern}` has two wildcards in a row")]
    ConsecutiveWildcards {
        /// The pattern as written.
        pattern: String,
    },
    /// A backslash before anything but a star or a backslash.
    #[error("`{pattern}` has a backslash that escapes neither `*` nor a backslash")]
    WildcardEscape {
        /// The pattern as written.
        pattern: String,
    },
    /// No network.
    #[error("`{text}` is not a network in CIDR notation")]
    NotACidr {
        /// The operand as written.
        text: String,
    },
    /// A network whose address has bits beyond its mask, which implementations read differently.
    #[error("`{text}` has address bits beyond its mask")]
    CidrHostBits {
        /// The operand as written.
        text: String,
        /// The network that contains it.
        network: String,
    },
    /// A reserved word as a key below `$or`.
    #[error("`{key}` is a reserved word, which is no key inside `$or`")]
    ReservedKeyInOr {
        /// The key.
        key: String,
    },
    /// `$or`s that multiply out into too many branches to be evaluated.
    #[error("its `$or`s multiply out into {count} branches, and {max} are the most")]
    TooManyBranches {
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },

    /// More keys than SNS takes.
    #[error("it has {count} keys, and SNS takes {max}")]
    TooManyKeys {
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// More combinations of values than SNS takes.
    #[error("its values make {count} combinations, and SNS takes {max}")]
    TooManyCombinations {
        /// How many there are.
        count: u64,
        /// How many there may be.
        max: u64,
    },
    /// Longer than SNS takes.
    #[error("it is {bytes} bytes long, and SNS takes {max}")]
    TooLong {
        /// Its length as JSON.
        bytes: usize,
        /// How long it may be.
        max: usize,
    },
    /// A number beyond what SNS compares.
    #[error("{number} is beyond ±{max}, which is as far as SNS compares numbers")]
    NumberOutOfBounds {
        /// The number as written.
        number: String,
        /// The largest magnitude.
        max: i64,
    },
    /// A number with more decimals than SNS compares.
    #[error("{number} has more than {max} decimals, which is as fine as SNS compares numbers")]
    NumberTooFine {
        /// The number as written.
        number: String,
        /// The most decimals.
        max: usize,
    },
    /// More stars in a pattern than SNS takes.
    #[error("a pattern has {count} wildcards, and SNS takes {max}")]
    TooManyWildcards {
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// More wildcard complexity than SNS takes.
    #[error("its wildcards make {points} points of complexity, and SNS takes {max}")]
    WildcardComplexity {
        /// How many there are.
        points: usize,
        /// How many there may be.
        max: usize,
    },
    /// Two lists of conditions for one path, of which `aws/event-ruler` keeps the last.
    #[error(
        "the same key has conditions in two places that hold together, and SNS may keep only one"
    )]
    SamePathTwice,
    /// A form that the SNS documentation does not name.
    #[error("the SNS documentation does not name `{form}`")]
    NotDocumentedBySns {
        /// The form.
        form: &'static str,
    },
    /// A value with a quote or backslash, which attribute filtering wants escaped twice.
    #[error(
        "SNS compares `{text}` with an attribute only if its quotes and backslashes are escaped twice"
    )]
    NeedsDoubleEscape {
        /// The value as written.
        text: String,
    },
    /// A CIDR mask that covers one address only, which `aws/event-ruler` refuses.
    #[error("SNS may refuse `{text}`, whose mask leaves one address")]
    CidrOfOneAddress {
        /// The operand as written.
        text: String,
    },
}

impl PolicyCause {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NotAnObject { .. } => "write `{ key = [\"value\"] }`",
            Self::EmptyObject => "give it a key, or leave it out",
            Self::EmptyList => "give it a condition, or leave the key out",
            Self::NotAList { .. } => "put the value in brackets",
            Self::NestedInAttributes => "name the attribute itself, or filter on the body",
            Self::NotAScalar { .. } => "list the values one by one",
            Self::OperatorCount { .. } => {
                "write one object for each operator; one of the list is enough to match"
            }
            Self::UnknownOperator { after_anything_but: false, .. } => {
                "use anything-but, cidr, equals-ignore-case, exists, numeric, prefix, suffix or wildcard; \
                 `$or` takes a list of at least two objects without these words as keys"
            }
            Self::UnknownOperator { after_anything_but: true, .. } => {
                "use a value, a list of values, equals-ignore-case, prefix, suffix or wildcard"
            }
            Self::OperandNotText { .. } => "write one string",
            Self::ExistsNotBool { .. } => "write true or false",
            Self::NumericForm { .. } => {
                "write [\"<\", 5], with one of = < <= > >=, or [\">=\", 0, \"<\", 5]"
            }
            Self::NumericRangeEmpty { .. } => "exchange the numbers, or use \"=\" for one number",
            Self::AnythingButForm { .. } => {
                "write one string or number, or a list of only strings or only numbers"
            }
            Self::AnythingButOfAll { .. } => "give it at least one character",
            Self::ConsecutiveWildcards { .. } => "write one `*` for them",
            Self::WildcardEscape { .. } => "write `\\\\` for a backslash and `\\*` for a star",
            Self::NotACidr { .. } => "write an address and its mask bits, such as 10.0.0.0/24",
            Self::CidrHostBits { .. } => "write the network's own address",
            Self::ReservedKeyInOr { .. } => "put the operator into a list below the key it is for",
            Self::TooManyBranches { .. } => "use fewer `$or`s, or split the policy",
            Self::TooManyKeys { .. } => {
                "filter on fewer keys here, and on the rest where the message is handled"
            }
            Self::TooManyCombinations { .. } => "list fewer values, or filter on fewer keys",
            Self::TooLong { .. } => "list fewer or shorter values",
            Self::NumberOutOfBounds { .. } | Self::NumberTooFine { .. } => {
                "compare this number where the message is handled"
            }
            Self::TooManyWildcards { .. } | Self::WildcardComplexity { .. } => {
                "use fewer wildcards, or prefix and suffix"
            }
            Self::SamePathTwice => "put all conditions for the key into one list",
            Self::NotDocumentedBySns { .. } | Self::NeedsDoubleEscape { .. } => {
                "use this condition only where the message is handled"
            }
            Self::CidrOfOneAddress { .. } => "write the address itself as the value",
        }
    }
}
