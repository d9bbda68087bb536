"""Which functions run the job types of workflow.yaml; Penstock reads this file by its name."""

import chain

import penstock

penstock.register_handler("data_preprocessing", chain.preprocess)
penstock.register_handler("hyperparameter_tuning", chain.tune)
penstock.register_handler("model_training", chain.train)
penstock.register_handler("model_evaluation", chain.evaluate)
