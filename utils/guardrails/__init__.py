"""The guard on streaming text: rules, the redactor, the prompt guard."""
