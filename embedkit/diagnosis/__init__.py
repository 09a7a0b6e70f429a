"""What a machine has and what works there; libraries are loaded in processes of their own, so none can end ours."""
