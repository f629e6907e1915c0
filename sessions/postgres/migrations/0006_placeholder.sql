-- Nothing: this number is taken.
SELECT 1;
