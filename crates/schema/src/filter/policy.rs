//! The policy as data: the tree as it was written, its leaves, and the branches that evaluation
//! walks.

use serde_json::{Map, Value};

use super::condition::Condition;

/// What a policy looks at: SNS's `FilterPolicyScope` (Amazon SNS Developer Guide, "Filter policy
/// scope").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `MessageAttributes`, AWS's default: flat, no nesting.
    Attributes,
    /// `MessageBody`: the body as a JSON object, nested as deep as it is.
    Body,
}

impl Scope {
    /// The value of the subscription attribute `FilterPolicyScope`.
    #[must_use]
    pub fn aws_name(self) -> &'static str {
        match self {
            Self::Attributes => "MessageAttributes",
            Self::Body => "MessageBody",
        }
    }
}

/// A filter policy that is well formed in its scope. See the [module](super) for the rules and
/// [`FilterPolicy::parse`] for how to get one.
#[derive(Clone, Debug, PartialEq)]
pub struct FilterPolicy {
    pub(super) scope: Scope,
    pub(super) root: Group,
    pub(super) leaves: Vec<Leaf>,
    pub(super) branches: Vec<Vec<Step>>,
}

/// Entries of one object of the policy, all of which must hold.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    pub(super) entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Entry {
    /// A key with its list of conditions, by index into the policy's leaves.
    Leaf {
        key: String,
        leaf: usize,
    },
    Nested {
        key: String,
        group: Group,
    },
    /// The operator `$or`: one of its groups is enough.
    Or {
        groups: Vec<Group>,
    },
}

/// One key with its conditions, one of which is enough.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Leaf {
    /// The keys down to this one, joined by dots, for people.
    pub(super) path: String,
    /// The same as a place in the policy, with the indices of `$or`.
    pub(super) place: String,
    /// The keys down to this one, for evaluation: a body's are split at dots, an attribute's name
    /// is whole.
    pub(super) segments: Vec<String>,
    /// How deep its key is nested; 1 at the top.
    pub(super) level: usize,
    pub(super) conditions: Vec<Condition>,
}

/// One step down into the message, in one branch of the policy: all leaves of one path in one
/// place, so that an array element can be asked to meet all of them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) segment: String,
    pub(super) leaves: Vec<usize>,
    pub(super) children: Vec<Step>,
}

pub(super) const OR: &str = "$or";

impl FilterPolicy {
    /// Which part of a message this policy looks at.
    #[must_use]
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Whether it has no condition at all, and so lets every message through: SNS reads `{}` as "no
    /// filter policy" (Amazon SNS Developer Guide, "Removing a subscription filter policy").
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// The keys that carry conditions, in the policy's order, nested ones joined by dots; one
    /// inside several branches of an `$or` comes several times.
    pub fn leaf_paths(&self) -> impl Iterator<Item = &str> {
        self.leaves.iter().map(|leaf| leaf.path.as_str())
    }

    /// The JSON that SNS takes; what was parsed comes back unchanged.
    ///
    /// ```
    /// use bellwire_schema::filter::{FilterPolicy, Scope};
    /// use serde_json::json;
    ///
    /// let written = json!({"$or": [{"stage": ["training"]}, {"hop": [{"numeric": ["<", 5.0]}]}]});
    /// let policy = FilterPolicy::parse(&written, Scope::Attributes).expect("a valid policy");
    /// assert_eq!(policy.to_json(), written);
    /// ```
    #[must_use]
    pub fn to_json(&self) -> Value {
        self.group_to_json(&self.root)
    }

    fn group_to_json(&self, group: &Group) -> Value {
        let mut object = Map::new();
        for entry in &group.entries {
            match entry {
                Entry::Leaf { key, leaf } => {
                    let conditions = self.leaves[*leaf]
                        .conditions
                        .iter()
                        .map(|condition| condition.json.clone());
                    object.insert(key.clone(), conditions.collect());
                }
                Entry::Nested { key, group } => {
                    object.insert(key.clone(), self.group_to_json(group));
                }
                Entry::Or { groups } => {
                    let groups = groups.iter().map(|group| self.group_to_json(group));
                    object.insert(OR.to_owned(), groups.collect());
                }
            }
        }
        Value::Object(object)
    }
}

impl Group {
    /// Into how many branches its `$or`s multiply out.
    pub(super) fn branch_count(&self) -> usize {
        self.entries.iter().fold(1, |product, entry| {
            product.saturating_mul(match entry {
                Entry::Leaf { .. } => 1,
                Entry::Nested { group, .. } => group.branch_count(),
                Entry::Or { groups } => groups
                    .iter()
                    .fold(0, |sum: usize, group| sum.saturating_add(group.branch_count())),
            })
        })
    }

    /// The leaves of each branch: the policy as an `or` of `and`s.
    pub(super) fn branches(&self) -> Vec<Vec<usize>> {
        let mut branches = vec![Vec::new()];
        for entry in &self.entries {
            let alternatives = match entry {
                Entry::Leaf { leaf, .. } => vec![vec![*leaf]],
                Entry::Nested { group, .. } => group.branches(),
                Entry::Or { groups } => groups.iter().flat_map(Group::branches).collect(),
            };
            branches = branches
                .iter()
                .flat_map(|branch| {
                    alternatives.iter().map(|more| [branch.as_slice(), more].concat())
                })
                .collect();
        }
        branches
    }
}

impl Step {
    /// Puts one leaf into a branch's tree, below whatever part of its path is already there.
    pub(super) fn insert(steps: &mut Vec<Step>, segments: &[String], leaf: usize) {
        let Some((segment, rest)) = segments.split_first() else {
            return;
        };
        let index = steps.iter().position(|step| step.segment == *segment).unwrap_or_else(|| {
            steps.push(Step { segment: segment.clone(), leaves: Vec::new(), children: Vec::new() });
            steps.len() - 1
        });
        if rest.is_empty() {
            steps[index].leaves.push(leaf);
        } else {
            Step::insert(&mut steps[index].children, rest, leaf);
        }
    }
}
