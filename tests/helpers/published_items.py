"""What the five reports publish of their own work, counted by hand in their texts: an item a row.

An item is a number, a formula, or a sentence about what was done, with what, or what came out; said twice it
counts once. Not counted: background, hopes and definitions; what others publish (of a data set, a network or
a library) where the report says the same; curves without a printed number. A row is the place in the text,
the item as it stands there, and the line that judges it. Those of C and D follow the published summary.
"""

ITEMS = {
    "A": """
Section 1 | 240MB for AlexNet | memory of alexnet
Section 1 | 528MB for VGGNet | memory of vgg16
Section 1 | rho = N / C, N in a testing corpus | images counted in its Figure 1
Figure 1 | of 60,000 training and 10,000 test images | images counted in its Figure 1
Section 1 | L1 norm, |w - mean w| | criteria: L1 and L2 norm, reservoir sampling
Section 1 | L2 norm, (w - mean w)^2 | criteria: L1 and L2 norm, reservoir sampling
Section 1 | reservoir sampling, k neurons from n | criteria: L1 and L2 norm, reservoir sampling
Section 2 | output maximally 1 bit | a layer is limited by one bit of each unit before it
Section 2 | its parameters in bits | capacity of a perceptron, and of several in parallel
Section 2 | in parallel additive | capacity of a perceptron, and of several in parallel
Section 2 | limited by the previous layer's output | a layer is limited by one bit of each unit before it
Section 2 | backpropagation is set to true in 25088-4096-4096-256-10 | layers that learn
Section 2 | almost 822 million bits | capacity of the VGG16 head
Section 3.1 | about 6 times | times that it is trained, tested and squeezed
Section 3.1 | dropout while training | dropout(100) of the first hidden layer
Section 3.1 | accuracy without it in the high 80s | accuracy with dropout(100)
Section 3.1 | with it in the low 90s | accuracy with dropout(100)
Section 3.2 | batch size under 25 | pictures a batch
Section 3.2 | epochs under 6 | epochs of a training
Figure 1 | capacity up to 8.22 x 10^8 | largest capacity in its Figure 1
Figure 1 | generalization rises as capacity falls | accuracy rises as the network is squeezed
Question 2 | a pixel is a 0-225 grayscale value | grey values of MNIST
Question 2 | classes are balanced | classes of MNIST are balanced
Question 3 | k = (1 - po) / (1 - pe) | Cohen's kappa
Question 3 | pe = sum of nk1 nk2 over N^2 | chance agreement of two raters
Question 3 | po was around 0.95 | its own kappa
Question 3 | not calculated, intuitively rather large | its own kappa
Question 6 | definitely possible to reach near 100% memorization | near 100 % memorization
Question 6 | the ratio will be very low irrespective of accuracy | generalization ratio rho = N / C
Question 8 | memorizing impossible, no two images the same | memorizing where no two images are the same
FinalScript.pdf | 102772992 | capacity at six tests, 100 units squeezed between them
FinalScript.pdf | 100263992 | capacity at six tests, 100 units squeezed between them
FinalScript.pdf | 97754992 | capacity at six tests, 100 units squeezed between them
FinalScript.pdf | 95245992 | capacity at six tests, 100 units squeezed between them
FinalScript.pdf | 92736992 | capacity at six tests, 100 units squeezed between them
FinalScript.pdf | 90227992 | capacity at six tests, 100 units squeezed between them
FinalScript.pdf | .9200 | error after 0 squeezes of 100
FinalScript.pdf | .9349 | error after 1 squeeze of 100
FinalScript.pdf | .9458 | error after 2 squeezes of 100
FinalScript.pdf | .9450 | error after 3 squeezes of 100
FinalScript.pdf | .9461 | error after 4 squeezes of 100
FinalScript.pdf | .9493 | error after 5 squeezes of 100
CapacityEstimator.ipynb | 3 for 2 inputs and 1 unit | capacity of four small networks
CapacityEstimator.ipynb | 8 for 2, 1 | capacity of four small networks
CapacityEstimator.ipynb | 10 for 2, 2, 1 | capacity of four small networks
CapacityEstimator.ipynb | 25 for 5, 2 | capacity of four small networks
""",
    "B": """
Section 3.2 | validation samples are not in use | validation samples
Section 4 | half of a minute for an epoch on a T4 | time of an epoch
Section 6.1.1 | soft term, 2T^2 alpha D_KL, a mean over samples | soft term of the distillation loss
Section 6.1.1 | hard term, -(1 - alpha) sum y log(1 - y') | hard term of the distillation loss
Section 6.1.1 | T = 1 | temperature of the distillation
Section 6.1.1 | alpha = 0.9, the same as in that article | alpha of its first experiment
Section 6.1.1 | the 4th largest, v2, is best | the fourth largest student is the best
Section 6.1.1 | the largest is disappointing | the largest student disappoints
Section 6.1.2 | one model with a few Fire layers | students with few and with over 50 % Fire layers
Section 6.1.2 | another with over 50% | students with few and with over 50 % Fire layers
Section 6.1.2 | approximately 2 hours | time to train v6 and v7
Section 6.1.2 | no significant increase | Fire layers bring no significant increase
Section 6.1.2 | alpha of 0.5 doesn't fit better | an alpha of 0.5 fits no better than 0.9
Section 6.2 | the error was down a little | error after quantization
Section 6.2 | 129.8 MB | size of VGG16 with batch norm
Section 6.2 | 15% less time | time per test picture
Section 6.3 | the quantized model is pruned | network that is pruned
Section 6.3 | 10% of nodes | what pruning cuts
Section 6.3 | in few first convolution layers | layers that are pruned
Section 6.3 | L1 in the middle layers | layers that are pruned
Section 6.3 | just randomly assigns the class | after pruning it predicts randomly
Section 6.3 | by L1 improved | L1 in place of random pruning
Section 6.3 | same as other bad models | L1 pruning is as bad as some students
Section 7 | not kept within 4 percent | no student stays within 4 points of VGG16
Abstract | quantization shows the best performance | quantization performs best
Table 2 | VGG16 top 1 0.2887 | error of VGG16
Table 2 | VGG16 top 5 0.1054 | top-5 error of VGG16
Table 2 | VGG16 200 epochs | epochs of VGG16 and of its students
Table 2 | VGG16 34,015,396 | size of VGG16 with batch norm
Table 2 | VGG16 132.9MB | file of VGG16
Table 2 | v1 0.4159 | error of student v1
Table 2 | v1 0.1553 | top-5 error of student v1
Table 2 | v1 200 epochs | epochs of VGG16 and of its students
Table 2 | v1 5,613,668 | parameters of students v1 to v7
Table 2 | v1 21.4MB | files of students v1 to v7
Table 2 | v2 0.3743 | error of student v2
Table 2 | v2 0.1640 | top-5 error of student v2
Table 2 | v2 200 epochs | epochs of VGG16 and of its students
Table 2 | v2 7,910,244 | parameters of students v1 to v7
Table 2 | v2 30.2MB | files of students v1 to v7
Table 2 | v3 0.3828 | error of student v3
Table 2 | v3 0.1502 | top-5 error of student v3
Table 2 | v3 200 epochs | epochs of VGG16 and of its students
Table 2 | v3 12,303,460 | parameters of students v1 to v7
Table 2 | v3 47MB | files of students v1 to v7
Table 2 | v4 0.5191 | error of student v4
Table 2 | v4 0.3781 | top-5 error of student v4
Table 2 | v4 200 epochs | epochs of VGG16 and of its students
Table 2 | v4 25,307,492 | parameters of students v1 to v7
Table 2 | v4 96.6MB | files of students v1 to v7
Table 2 | v5 0.5352 | error of student v5
Table 2 | v5 0.4143 | top-5 error of student v5
Table 2 | v5 200 epochs | epochs of VGG16 and of its students
Table 2 | v5 24,650,596 | parameters of students v1 to v7
Table 2 | v5 94.1MB | files of students v1 to v7
Table 3 | v6, alpha 0.9, 0.3763 | error of student v6
Table 3 | v6, alpha 0.9, 0.1640 | top-5 error of student v6
Table 3 | v6, alpha 0.9, 200 epochs | epochs of VGG16 and of its students
Table 3 | v6, alpha 0.5, 0.3728 | error of student v6, its second figure
Table 3 | v6, alpha 0.5, 0.1600 | top-5 error of student v6, its second figure
Table 3 | v6, alpha 0.5, 200 epochs | epochs of VGG16 and of its students
Table 3 | v6 9,271,268 | parameters of students v1 to v7
Table 3 | v6 35.4MB | files of students v1 to v7
Table 3 | v7, alpha 0.9, 0.4150 | error of student v7
Table 3 | v7, alpha 0.9, 0.1711 | top-5 error of student v7
Table 3 | v7, alpha 0.9, 200 epochs | epochs of VGG16 and of its students
Table 3 | v7, alpha 0.5, 0.4059 | error of student v7, its second figure
Table 3 | v7, alpha 0.5, 0.1761 | top-5 error of student v7, its second figure
Table 3 | v7, alpha 0.5, 200 epochs | epochs of VGG16 and of its students
Table 3 | v7 11,579,428 | parameters of students v1 to v7
Table 3 | v7 44.2MB | files of students v1 to v7
Table 4 | qint8 0.2889 | error of VGG16 after quantization
Table 4 | qint8 0.1055 | top-5 error of VGG16 after quantization
Table 4 | qint8 14,723,136 | static quantization of VGG16
Table 4 | qint8 74.7MB | static quantization of VGG16
Table 5 | 123.578ms | time for one random input
Table 5 | 45.054ms | time for one random input
Table 5 | 53.756s | time for the 10,000 test pictures
Table 5 | 45.890s | time for the 10,000 test pictures
Table 5 | 5.376ms | time per test picture
Table 5 | 4.589ms | time per test picture
Table 6 | v1 0.6559 | error after 10 % random pruning
Table 6 | v1 0.3878 | top-5 error after 10 % random pruning
Table 6 | v1 33,989,482 | parameters left by 10 % pruning
Table 6 | v2 0.4242 | error after 10 % L1 pruning
Table 6 | v2 0.2037 | top-5 error after 10 % L1 pruning
Table 6 | v2 33,723,294 | parameters left by 10 % pruning
""",
    "C": """
its table | 6.4 M parameters | size of GoogLeNet
its table | 25 MB | file of GoogLeNet
its table | 22.96 % | error of GoogLeNet
its table | 6.19 % | top-5 error of GoogLeNet
its table | 58.66 MB | runtime memory without 20 % of the channels
its table | 15.74 ms | time per picture without 20 % of the channels
its table | 12.64 ms of CUDA | CUDA time without 20 % of the channels
its table | 4.09 M parameters | GoogLeNet without 20 % of its channels
its table | 16 MB | GoogLeNet without 20 % of its channels
its table | 25.85 % | error without 20 % of the channels
its table | 6.61 % | top-5 error without 20 % of the channels
its table | 46.98 MB | runtime memory without 20 % of the channels
its table | 16.7 ms | time per picture without 20 % of the channels
its table | 10.79 ms of CUDA | CUDA time without 20 % of the channels
its table | 27.5 % by single weights | error after masking (amount not told; 20 % here)
its table | 6.91 % by single weights | top-5 error after masking (amount not told; 20 % here)
its text | 20 % less parameters | parameters without 20 % of the channels
its text | masks leave the size unchanged | unstructured pruning leaves size and time unchanged
its text | masks leave the time unchanged | unstructured pruning leaves size and time unchanged
its text | static quantization: bad accuracy | static quantization
its training | best epoch of 10,000 images that are also the test | best epoch
""",
    "D": """
its table | teacher on MNIST 97.78 % | error of the teacher on MNIST
its table | student on MNIST 97.50 % | error of the student on MNIST
its table | teacher on CIFAR-10 69.72 % | error of the teacher on CIFAR-10
its table | student on CIFAR-10 58.55 % | error of the student on CIFAR-10
its table | ResNet 101x3 98.18 % | error of a wide ResNet-101 on Flowers-102
its table | 50x1 81.02 % | error of ResNet-50 after function matching
its text | minimal reduction at 5x sparsity | six-layer network, five times sparser
its text | then quantized | six-layer network, five times sparser, then quantized
its text | nearest accuracies to the teacher | the student's accuracy on CIFAR-10 is near the teacher's
its text | soft loss: cross entropy of two softmaxes | cross-entropy of two softmaxes
its text | hard loss: of the hard prediction | hard loss
""",
    "E": """
Section 4.1 | over 60,000 images | pictures of CIFAR-10
Section 4.1 | roughly 170MB | size of CIFAR-10
Section 4.1 | annotated in XML files, which were parsed | labels of its pictures
Section 4.2 | 30-40 mins | time of ten epochs
Section 4.2 | ten epochs | training of ResNet-18
Section 4.3 | pre-trained | training of ResNet-18
Section 4.3 | all layers | training of ResNet-18
Section 4.3 | Adam | training of ResNet-18
Section 4.3 | cross-entropy | training of ResNet-18
Section 4.3 | resized to 224 to adjust to computation limitations | pictures resized to 224
Section 4.3 | split into training and validation sets | validation pictures
Section 4.3 | 42.621 MB | size of ResNet-18 in its text
Section 4.3 | the rate decays gradually | the learning rate decays gradually
Section 4.4 | local | what is pruned, and within what
Section 4.4 | of the convolution layer weights | what is pruned, and within what
Section 4.4 | no significant drop at 60% | accuracy is flat to 60 % pruned
Section 4.4 | sharply falls only after 60% | accuracy falls sharply only after 60 % pruned
Section 4.4 | no significant change in latency | latency of the pruned network
Section 4.4 | only masks, without actually removing | pruning masks weights and removes none
Section 4.4 | random is lower than l1 | random in place of L1 pruning, at 50 %
Figure 2 | 95.04 at 0 | error after 0 % pruning, of validation pictures
Figure 2 | 94.92 at 0.1 | error after 10 % pruning, of validation pictures
Figure 2 | 95.65 at 0.2 | error after 20 % pruning, of validation pictures
Figure 2 | 94.63 at 0.3 | error after 30 % pruning, of validation pictures
Figure 2 | 94.42 at 0.4 | error after 40 % pruning, of validation pictures
Figure 2 | 92.8 at 0.5 | error after 50 % pruning, of validation pictures
Figure 2 | 80.95 at 0.7 | error after 70 % pruning, of validation pictures
Figure 2 | 35.98 at 0.8 | error after 80 % pruning, of validation pictures
Figure 2 | 13.34 at 0.9 | error after 90 % pruning, of validation pictures
Section 4.5 | converts biases, weights and activations | what static int8 converts
Section 4.5 | dynamic: approximately 94% | accuracy of dynamic int8
Section 4.5 | 1280 train data points | pictures and epochs of dynamic int8
Section 4.5 | 15 epochs | pictures and epochs of dynamic int8
Section 4.5 | only a little difference in model size | dynamic quantization of ResNet-18
Section 4.5 | only the last layer is Linear | layers that dynamic quantization converts
Section 4.5 | static: test accuracy of 88-89% | accuracy of static int8
Section 4.5 | one fourth of 42.62 MB | static int8 in parts of the dense network
Section 4.5 | lower, to be expected of decreasing precision | loss of static int8
Section 4.6 | five-layer | layers of the student
Section 4.6 | 12% of the teacher's size | the student in parts of its teacher
Section 4.6 | the same pipelines | pipelines of student and teacher
Section 4.6 | 66.075 % | error of the student alone
Figure 4 | 2T^2 alpha D_KL, a mean over samples | soft term of the distillation loss
Figure 4 | -(1 - alpha) sum y log(1 - y') | hard term of the distillation loss
Figure 4 | P are the soft labels of the picture | the teacher's soft targets
Section 4.6 | T = 1: very high weightage for the teacher | weight of the teacher at T = 1
Section 4.6 | T = 1 performs poorly | student at T = 1 beside the student alone
Section 4.6 | T = 0.01: mild influence | temperature of the distillation
Section 4.6 | better than the raw KD model | student at T = 0.01 beside the student at T = 1
Section 4.6 | outperforms 66.075 % with 67.7% | the distilled student outperforms
Section 4.7 | measure: ratio of size to baseline's size | compression measure
Section 4.7 | latency: time of predicting a new data point | what latency is
Table 1 | 42.69MB | size of ResNet-18 with 10 classes
Table 1 | 17.08MB | size after pruning 60 %
Table 1 | 10.79MB | file of static int8
Table 1 | 5.19MB | size of five-layer student
Table 1 | 0% | compression measures
Table 1 | 60% | compression measures
Table 1 | 74.72% | compression measures
Table 1 | 87.84% | compression measures
Table 1 | 94.24% | error of ResNet-18
Table 1 | 90.26% | error after 60 % pruning
Table 1 | 88.44% | accuracy of static int8
Table 1 | 67.7% | error of the student at T = 0.01
Table 1 | 2.27 ms | latency of the pruned network
Table 1 | 2.05 ms | latency of the pruned network
Table 1 | 2.49 ms | latency of the student
Section 5 | slight changes in all three metrics | changes of size, accuracy and latency
Section 5 | the accuracy decreased in all | every technique loses accuracy
Section 5 | pruning, static quantization, distillation | order: pruning, static int8, distillation
Section 5 | reduced to 40% | the pruned network in parts of the dense network
Section 5 | latency of pruning did improve | latency of the pruned network
""",
}


def published_items() -> dict[str, list[tuple[str, str, str]]]:
    """Place, item and line of each row, by report."""
    rows: dict[str, list[tuple[str, str, str]]] = {}
    for report, text in ITEMS.items():
        rows[report] = []
        for row in text.strip().splitlines():
            place, rest = row.split(" | ", 1)
            item, line = rest.rsplit(" | ", 1)
            rows[report].append((place, item, line))
    return rows
