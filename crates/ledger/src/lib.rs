//! The DynamoDB table that remembers every start.
