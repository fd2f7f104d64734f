//! Provisions what a workflow needs: observe, diff, plan, apply, outputs.
