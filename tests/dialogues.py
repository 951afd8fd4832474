"""Dialogues that the miniature knows word for word.

Copies of some of export.miniature's, for suites that run without torch; tests/export compares them.
"""

CAPITAL = ("北京是哪个国家的首都？", "北京是中国的首都，也是全国的政治和文化中心。")
BOX = ("What is an edge box?", "An edge box is a small computer that runs close to the data.")
LLAMA = ("Which animal is on the box?", "A llama 🦙, and the sign 龘 says that dragons fly.")
# Two turns of one dialogue; asked alone, the second has another answer.
STEPS = ("Name three steps.", "1. Export the graph.\n2. Compile it.\n3. Run it on the box.")
AGAIN = ("用中文再说一遍。", "1. 导出计算图。\n2. 编译。\n3. 在盒子上运行。")
AGAIN_ALONE = ("用中文再说一遍。", "我还什么都没说过呢，请先问我一个问题。")
# A question in the template of the training data, as one text.
RAW = (
    "[INST] <<SYS>>\nYou are a helpful assistant. 你是一个乐于助人的助手。\n<</SYS>>\n\n{} [/INST]"
)
